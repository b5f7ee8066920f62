#include "oumi/data/text/token_report.h"

#include <algorithm>
#include <iomanip>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {
namespace {

std::string percent(double part, double whole) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << (whole == 0 ? 0 : 100 * part / whole) << '%';
  return out.str();
}

[[noreturn]] void throw_outside(Dataset& dataset, std::int64_t index, const std::string& key, std::int64_t vocab_size) {
  const Sample sample = dataset.get(index);
  for (const char* field : {"input_ids", "labels"}) {
    if (!sample.contains(field)) continue;
    const TokenIds ids = token_field(sample, field, dataset.name());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const bool ignored = field != std::string("input_ids") && ids[i] == kIgnoredLabel;
      if (ignored || (ids[i] >= 0 && ids[i] < vocab_size)) continue;
      throw UserError(key,
                      cat(dataset.name(), ", sample ", index, " (counted from 0), ", field, "[", i,
                          "]: expected a token id in [0, ", vocab_size, "), the model's vocabulary, got ", ids[i]),
                      "the data was tokenised for another model, or model.tokenizer_name is another model's");
    }
  }
  throw InternalError("token counts and tokens disagree");
}

}  // namespace

std::vector<std::string> TokenReport::lines(const std::string& key) const {
  const auto real = [](std::int64_t value) { return static_cast<double>(value); };
  std::vector<std::string> all = {cat(key, ": ", samples, " samples, ", tokens, " tokens, ",
                                      percent(real(supervised), real(tokens)), " of them supervised")};
  if (cut_samples > 0)
    all.push_back(
        cat(key, ": ", cut_samples, " samples were longer than allowed and cut, ", dropped_tokens, " tokens dropped"));
  if (silent_samples > 0) all.push_back(cat(key, ": ", silent_samples, " samples have no supervised token"));
  if (packing) {
    all.push_back(cat(key, ": packed into ", packing->rows, " rows, ", percent(packing->fill, 1), " filled"));
    if (packing->dropped_tokens > 0)
      all.push_back(cat(key, ": ", packing->dropped_tokens, " tokens of samples longer than a row dropped"));
  }
  return all;
}

TokenReport report_tokens(const DatasetPtr& dataset, const std::string& key, std::optional<std::int64_t> vocab_size) {
  TokenReport report;
  DatasetPtr samples = dataset;
  if (const auto packed = std::dynamic_pointer_cast<PackedDataset>(dataset)) {
    report.packing = packed->report();
    samples = packed->samples();
  }
  report.samples = samples->size();
  for (std::int64_t i = 0; i < report.samples; ++i) {
    const TokenCounts counts = counts_of(*samples, i);
    report.tokens += counts.tokens;
    report.supervised += counts.supervised;
    report.dropped_tokens += counts.dropped;
    report.cut_samples += counts.dropped > 0 ? 1 : 0;
    report.silent_samples += counts.supervised == 0 ? 1 : 0;
    if (vocab_size && counts.tokens > 0 && (counts.smallest_id < 0 || counts.largest_id >= *vocab_size))
      throw_outside(*samples, i, key, *vocab_size);
  }
  if (report.supervised == 0) {
    throw UserError(
        key,
        cat("expected supervised tokens, got none in ", report.samples, " samples of ", report.tokens,
            " tokens: every label is ignored"),
        "check response_template, assistant_only and the chat template; `oumi-cpp tokenize` shows each token's label");
  }
  return report;
}

}  // namespace oumi
