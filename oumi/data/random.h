// Random numbers of the data path: NumPy's default_rng, so that shuffles and mixtures come out as Hugging Face Datasets
// makes them, and a counter-based stream for transforms. No torch here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace oumi {

// numpy.random.default_rng(seed): PCG64 (XSL-RR 128/64) seeded through SeedSequence. M. O'Neill, "PCG: A Family of Simple
// Fast Space-Efficient Statistically Good Algorithms for Random Number Generation", 2014.
class NumpyGenerator {
 public:
  explicit NumpyGenerator(std::uint64_t seed);

  std::uint64_t next_uint64();
  // Half of a 64-bit draw; the other half is kept for the next call.
  std::uint32_t next_uint32();
  // Generator.random(): a double in [0, 1) from 53 bits.
  double random();
  // An integer of [0, max] as Generator.shuffle draws it: masked bits, drawn again until they fit.
  std::uint64_t interval(std::uint64_t max);
  // Generator.permutation(n).
  std::vector<std::int64_t> permutation(std::int64_t n);
  // Generator.choice(len(cumulative), p=...), one draw: `cumulative` from cumulative_probabilities.
  std::size_t choice(std::span<const double> cumulative);
  // Skips `draws` 64-bit draws in O(log draws).
  void advance(std::uint64_t draws);

 private:
  __extension__ using Uint128 = unsigned __int128;
  Uint128 state_ = 0, increment_ = 0;
  std::uint32_t spare_ = 0;
  bool has_spare_ = false;
};

// The running sum of `probabilities` over its total, as Generator.choice computes it.
std::vector<double> cumulative_probabilities(std::span<const double> probabilities);

// Random numbers that are a function of (seed, epoch, sample index) alone: the same whatever thread asks, in whatever
// order. SplitMix64 (Steele, Lea and Flood, 2014) from a mixed key.
class SampleRng {
 public:
  SampleRng(std::uint64_t seed, std::int64_t epoch, std::int64_t index);
  std::uint64_t next_uint64();
  // In [0, 1).
  double uniform() { return static_cast<double>(next_uint64() >> 11) * 0x1.0p-53; }
  // In [0, bound), bound >= 1, without modulo bias beyond 2^-64 * bound.
  std::int64_t below(std::int64_t bound);

 private:
  std::uint64_t state_;
};

}  // namespace oumi
