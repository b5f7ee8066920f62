// Which samples a recipe's `shuffle`, `sample_count` and `mixture_proportion` choose, index by index as Oumi and Hugging
// Face Datasets do it for the same seed. No torch here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oumi {

struct SamplingOptions {
  bool shuffle = false;
  std::uint64_t seed = 0;
  std::int64_t sample_count = -1;  // below zero: all
};

// Indices into a dataset of `size` samples. sample_count up to size: the first of them, after the shuffle. Beyond it: whole
// copies, then the first of another (shuffled) copy, then all of that shuffled. Throws UserError naming `key` when samples
// are wanted from an empty dataset.
std::vector<std::int64_t> sample_indices(std::int64_t size, const SamplingOptions& options, const std::string& key);

// When interleaving ends: as soon as one dataset has run out, or when each has at least once (those that run out earlier
// start again).
enum class MixtureStrategy { kFirstExhausted, kAllExhausted };

// Throws UserError naming `key`.
MixtureStrategy parse_mixture_strategy(const std::string& name, const std::string& key);

// datasets.interleave_datasets(probabilities=..., seed=..., stopping_strategy=...): indices into the datasets put in a row.
// Throws UserError naming `key` when a dataset is empty or the probabilities are not a distribution.
std::vector<std::int64_t> interleave_indices(std::span<const std::int64_t> sizes, std::span<const double> probabilities,
                                             std::uint64_t seed, MixtureStrategy strategy, const std::string& key);

// Throws UserError naming `key` unless the probabilities are at least 0 and add up to 1, and, for kAllExhausted, none is 0:
// a dataset that is never drawn from does not run out.
void check_probabilities(std::span<const double> probabilities, MixtureStrategy strategy, const std::string& key);

}  // namespace oumi
