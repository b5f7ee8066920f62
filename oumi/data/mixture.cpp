#include "oumi/data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/random.h"

namespace oumi {
namespace {

// `values` in the order of default_rng(seed).permutation.
std::vector<std::int64_t> shuffled(const std::vector<std::int64_t>& values, std::uint64_t seed) {
  std::vector<std::int64_t> order = NumpyGenerator(seed).permutation(static_cast<std::int64_t>(values.size()));
  for (std::int64_t& position : order) position = values[position];
  return order;
}

}  // namespace

std::vector<std::int64_t> sample_indices(std::int64_t size, const SamplingOptions& options, const std::string& key) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(size));
  std::iota(all.begin(), all.end(), 0);
  const std::int64_t wanted = options.sample_count;
  if (wanted < 0 || wanted <= size) {
    if (options.shuffle) all = shuffled(all, options.seed);
    if (wanted >= 0) all.resize(static_cast<std::size_t>(wanted));
    return all;
  }
  if (size == 0) throw UserError(key, cat("expected samples to draw ", wanted, " from, got an empty dataset"));
  std::vector<std::int64_t> chosen;
  chosen.reserve(static_cast<std::size_t>(wanted));
  for (std::int64_t copy = 0; copy < wanted / size; ++copy) chosen.insert(chosen.end(), all.begin(), all.end());
  if (options.shuffle) all = shuffled(all, options.seed);
  chosen.insert(chosen.end(), all.begin(), all.begin() + wanted % size);
  return options.shuffle ? shuffled(chosen, options.seed) : chosen;
}

MixtureStrategy parse_mixture_strategy(const std::string& name, const std::string& key) {
  const std::string lower = to_lower(name);
  if (lower == "first_exhausted") return MixtureStrategy::kFirstExhausted;
  if (lower == "all_exhausted") return MixtureStrategy::kAllExhausted;
  throw UserError(key, "expected first_exhausted or all_exhausted, got '" + name + "'",
                  suggestion(name, {"first_exhausted", "all_exhausted"}));
}

void check_probabilities(std::span<const double> probabilities, MixtureStrategy strategy, const std::string& key) {
  double sum = 0;
  for (const double probability : probabilities) {
    if (!(probability >= 0)) throw UserError(key, cat("expected mixture_proportion of at least 0, got ", probability));
    if (probability == 0 && strategy == MixtureStrategy::kAllExhausted) {
      throw UserError(key, "all_exhausted: expected mixture_proportion above 0, got 0: such a dataset is never exhausted",
                      "leave the dataset out, or use first_exhausted");
    }
    sum += probability;
  }
  if (!(std::abs(sum - 1) < 1e-6)) throw UserError(key, cat("expected mixture_proportion values that add up to 1, got ", sum));
}

std::vector<std::int64_t> interleave_indices(std::span<const std::int64_t> sizes, std::span<const double> probabilities,
                                             std::uint64_t seed, MixtureStrategy strategy, const std::string& key) {
  check_probabilities(probabilities, strategy, key);
  std::vector<std::int64_t> offsets(sizes.size()), used(sizes.size());
  std::int64_t total = 0, open = 0;  // open: datasets that can be drawn and have not run out
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    offsets[i] = total;
    total += sizes[i];
    if (probabilities[i] == 0) continue;  // never drawn: neither its size nor its end matters
    if (sizes[i] < 1) throw UserError(key, cat("dataset ", i, " of the mixture is empty"));
    ++open;
  }
  NumpyGenerator rng(seed);
  const auto cumulative = cumulative_probabilities(probabilities);
  std::vector<bool> exhausted(sizes.size());
  const std::int64_t enough = strategy == MixtureStrategy::kAllExhausted ? 0 : open - 1;
  std::vector<std::int64_t> indices;
  while (open > enough) {
    const std::size_t source = rng.choice(cumulative);
    indices.push_back(offsets[source] + used[source]);
    if (++used[source] < sizes[source]) continue;
    used[source] = 0;
    if (!exhausted[source]) --open;
    exhausted[source] = true;
  }
  return indices;
}

}  // namespace oumi
