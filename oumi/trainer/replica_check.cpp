#include "oumi/trainer/replica_check.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

std::string hash_of(const Tensor& parameter) {
  const Tensor values = parameter.detach().cpu().contiguous();
  return hash_bytes(values.const_data_ptr(), values.nbytes());
}

// The text that most ranks have; with as many of another, that of the lower rank.
const std::string& most_common(const std::vector<std::string>& texts) {
  std::map<std::string, std::size_t> counts;
  for (const std::string& text : texts) ++counts[text];
  return *std::max_element(texts.begin(), texts.end(),
                           [&](const std::string& a, const std::string& b) { return counts[a] < counts[b]; });
}

}  // namespace

void require_equal_replicas(ProcessGroup& group, const NamedParameters& parameters, std::int64_t step) {
  if (group.world_size() == 1) return;
  constexpr const char* kWhat = "comparing the ranks' weights";
  std::vector<std::string> own;
  for (const auto& [name, parameter] : parameters) own.push_back(hash_of(parameter));
  const std::string joined = join(own, "\n");
  const std::vector<std::string> all = group.gather_text(hash_bytes(joined.data(), joined.size()), kWhat);
  if (std::all_of(all.begin(), all.end(), [&](const std::string& hash) { return hash == all.front(); })) return;

  // All ranks are here: which parameters differ is worth a longer text.
  const std::vector<std::string> texts = group.gather_text(joined, kWhat);
  const std::string& common = most_common(texts);
  const std::vector<std::string> expected = split(common, '\n');
  std::vector<std::string> ranks, names;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    if (texts[rank] == common) continue;
    ranks.push_back(cat(rank));
    const std::vector<std::string> hashes = split(texts[rank], '\n');
    for (std::size_t i = 0; i < parameters.size() && i < hashes.size() && i < expected.size(); ++i) {
      if (hashes[i] != expected[i] && std::find(names.begin(), names.end(), parameters[i].first) == names.end())
        names.push_back(parameters[i].first);
    }
  }
  const std::size_t differing = names.size();
  if (names.size() > 3) names.resize(3);
  throw EnvironmentError(cat("rank ", join(ranks, ", ")),
                         cat("after step ", step, ": expected the same weights on all ranks, got other values of ", differing,
                             " parameters (", join(names, ", "), differing > names.size() ? ", ...)" : ")"),
                         "no checkpoint was written; memory that fails or a forward that differs between ranks does this. Go "
                         "on from the last checkpoint, on "
                         "another machine");
}

}  // namespace oumi
