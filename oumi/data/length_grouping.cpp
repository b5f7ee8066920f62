#include "oumi/data/length_grouping.h"

#include <ATen/ops/randperm.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {

std::vector<std::int64_t> length_grouped_indices(const std::vector<std::int64_t>& lengths, std::int64_t batch_size,
                                                 at::Generator& generator, std::optional<std::int64_t> mega_batch_mult) {
  const auto n = static_cast<std::int64_t>(lengths.size());
  if (batch_size < 1) throw UserError("group_by_length", cat("batch_size: expected 1 or more, got ", batch_size));
  if (mega_batch_mult && *mega_batch_mult < 1) {
    throw UserError("group_by_length", cat("mega_batch_mult: expected 1 or more, got ", *mega_batch_mult));
  }
  if (n == 0) return {};
  const std::int64_t mult = mega_batch_mult.value_or(std::max<std::int64_t>(1, std::min<std::int64_t>(n / batch_size / 4, 50)));
  const std::int64_t group = mult > n / batch_size ? n : mult * batch_size;

  const at::Tensor permutation = at::randperm(n, generator, at::kLong);
  const std::int64_t* drawn = permutation.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> order(drawn, drawn + n);
  const auto length = [&](std::int64_t index) { return lengths[static_cast<std::size_t>(index)]; };
  auto longest = order.begin();
  for (std::int64_t first = 0; first < n; first += group) {
    const auto begin = order.begin() + first, end = order.begin() + std::min(n, first + group);
    // Stable, as Python's sort is: equal lengths stay in drawn order.
    std::stable_sort(begin, end, [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
    if (length(*begin) > length(*longest)) longest = begin;
  }
  std::iter_swap(order.begin(), longest);
  return order;
}

LengthGroupedSampler::LengthGroupedSampler(std::vector<std::int64_t> lengths, LengthGroupedSamplerOptions options)
    : lengths_(std::move(lengths)), options_(options) {
  if (options_.batch_size < 1)
    throw UserError("group_by_length", cat("batch_size: expected 1 or more, got ", options_.batch_size));
}

void LengthGroupedSampler::start_epoch(std::int64_t epoch) {
  if (epoch_ == epoch) return;
  at::Generator generator = make_generator(options_.seed + static_cast<std::uint64_t>(epoch));
  order_ = length_grouped_indices(lengths_, options_.batch_size, generator);
  epoch_ = epoch;
}

Json LengthGroupedSampler::state_dict() const {
  return Json{{"group_by_length", options_.batch_size},
              {"seed", options_.seed},
              {"lengths", hash_bytes(lengths_.data(), lengths_.size() * sizeof(lengths_[0]))}};
}

void LengthGroupedSampler::load_state_dict(const Json& state) {
  const Json here = state_dict();
  for (const auto& [name, value] : here.items()) {
    const auto saved = state.find(name);
    if (saved != state.end() && *saved == value) continue;
    throw UserError("group_by_length",
                    cat(name, ": expected ", saved == state.end() ? std::string("nothing") : saved->dump(),
                        " as in the saved state, got ", value.dump()),
                    "the order depends on lengths, seed, batch size and gradient accumulation: resume with the saved run's");
  }
}

std::vector<std::int64_t> sample_lengths(Dataset& dataset, const std::string& field) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(dataset.size()));
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    std::int64_t& length = lengths[static_cast<std::size_t>(i)];
    if (const auto known = dataset.sample_length(i)) {
      length = *known;
      continue;
    }
    const Sample sample = dataset.get(i);
    const Tensor* tensor = sample.find(field);
    if (tensor == nullptr || tensor->dim() == 0) {
      throw UserError("group_by_length",
                      cat("sample ", i, " of ", dataset.name(), ": expected a field '", field, "' with a length, got [",
                          join(sample.names(), ", "), "]"),
                      "set length_column_name, or use another train_sampling_strategy");
    }
    length = tensor->size(0);
  }
  return lengths;
}

}  // namespace oumi
