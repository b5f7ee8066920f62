// Batches of samples of about the same length, for less padding: `train_sampling_strategy: group_by_length`.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "oumi/data/dataset.h"
#include "oumi/data/samplers.h"

namespace oumi {

// transformers' get_length_grouped_indices: a random permutation, cut into mega-batches of mega_batch_mult * batch_size, each
// sorted by falling length, with the longest sample of all swapped to the very first place so that running out of memory
// happens at once. mega_batch_mult defaults to min(n / (4 * batch_size), 50), at least 1. Draws one permutation from
// `generator`. Empty lengths give an empty order. Throws UserError when batch_size or mega_batch_mult is below 1.
std::vector<std::int64_t> length_grouped_indices(const std::vector<std::int64_t>& lengths, std::int64_t batch_size,
                                                 at::Generator& generator,
                                                 std::optional<std::int64_t> mega_batch_mult = std::nullopt);

struct LengthGroupedSamplerOptions {
  std::int64_t batch_size = 1;  // transformers' Trainer gives batch size per device x gradient accumulation
  std::uint64_t seed = 0;
};

// Epoch e groups by a permutation of a generator seeded with seed + e. (transformers draws from the process's global generator,
// so that its epochs from the second on cannot be resumed; the permutation given a generator is the same.)
class LengthGroupedSampler : public Sampler {
 public:
  LengthGroupedSampler(std::vector<std::int64_t> lengths, LengthGroupedSamplerOptions options);
  std::int64_t size() const override { return static_cast<std::int64_t>(lengths_.size()); }
  void start_epoch(std::int64_t epoch) override;
  std::int64_t at(std::int64_t position) const override { return order_[static_cast<std::size_t>(position)]; }
  // What the order depends on; loading another one throws UserError.
  Json state_dict() const override;
  void load_state_dict(const Json& state) override;

 private:
  std::vector<std::int64_t> lengths_;
  LengthGroupedSamplerOptions options_;
  std::optional<std::int64_t> epoch_;
  std::vector<std::int64_t> order_;
};

// Length of every sample of a map-style dataset: what Dataset::sample_length says where it says it, else the first dimension
// of the sample's `field`, for which the sample is loaded. Throws UserError when a sample has no such field.
std::vector<std::int64_t> sample_lengths(Dataset& dataset, const std::string& field = "input_ids");

}  // namespace oumi
