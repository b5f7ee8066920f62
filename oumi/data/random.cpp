#include "oumi/data/random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <utility>

namespace oumi {
namespace {

// NumPy's SeedSequence with a pool of four words: entropy in, `generate_state(8)` 32-bit words out.
std::array<std::uint32_t, 8> seed_sequence(std::uint64_t seed) {
  constexpr std::uint32_t kMultA = 0x931e8875u, kMultB = 0x58f38dedu, kMixLeft = 0xca01f9ddu, kMixRight = 0x4973f715u;
  std::uint32_t hash = 0x43b0d7e5u;
  const auto hash_mix = [&hash](std::uint32_t value) {
    value ^= hash;
    hash *= kMultA;
    value *= hash;
    return value ^ (value >> 16);
  };
  const auto mix = [](std::uint32_t x, std::uint32_t y) {
    const std::uint32_t result = kMixLeft * x - kMixRight * y;
    return result ^ (result >> 16);
  };
  std::array<std::uint32_t, 4> pool = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32), 0, 0};
  for (std::uint32_t& word : pool) word = hash_mix(word);
  for (std::size_t from = 0; from < pool.size(); ++from) {
    for (std::size_t to = 0; to < pool.size(); ++to) {
      if (from != to) pool[to] = mix(pool[to], hash_mix(pool[from]));
    }
  }
  std::array<std::uint32_t, 8> words{};
  hash = 0x8b51f9ddu;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::uint32_t value = pool[i % pool.size()] ^ hash;
    hash *= kMultB;
    value *= hash;
    words[i] = value ^ (value >> 16);
  }
  return words;
}

__extension__ using Uint128 = unsigned __int128;
constexpr Uint128 kMultiplier = (static_cast<Uint128>(2549297995355413924ULL) << 64) | 4865540595714422341ULL;

}  // namespace

NumpyGenerator::NumpyGenerator(std::uint64_t seed) {
  const auto words = seed_sequence(seed);
  const auto word64 = [&words](int i) {
    return static_cast<Uint128>(words[2 * i] | (static_cast<std::uint64_t>(words[2 * i + 1]) << 32));
  };
  increment_ = (((word64(2) << 64) | word64(3)) << 1) | 1;
  state_ = increment_;  // one step from zero
  state_ += (word64(0) << 64) | word64(1);
  state_ = state_ * kMultiplier + increment_;
}

std::uint64_t NumpyGenerator::next_uint64() {
  state_ = state_ * kMultiplier + increment_;
  const auto folded = static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
  const auto rotation = static_cast<unsigned>(state_ >> 122);
  return (folded >> rotation) | (folded << ((64 - rotation) & 63));
}

std::uint32_t NumpyGenerator::next_uint32() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const std::uint64_t draw = next_uint64();
  has_spare_ = true;
  spare_ = static_cast<std::uint32_t>(draw >> 32);
  return static_cast<std::uint32_t>(draw);
}

double NumpyGenerator::random() { return static_cast<double>(next_uint64() >> 11) * (1.0 / 9007199254740992.0); }

std::uint64_t NumpyGenerator::interval(std::uint64_t max) {
  if (max == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(max);
  std::uint64_t value;
  do {
    value = (max <= 0xFFFFFFFFULL ? next_uint32() : next_uint64()) & mask;
  } while (value > max);
  return value;
}

std::vector<std::int64_t> NumpyGenerator::permutation(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[interval(static_cast<std::uint64_t>(i))]);
  return order;
}

std::size_t NumpyGenerator::choice(std::span<const double> cumulative) {
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), random());
  return std::min<std::size_t>(found - cumulative.begin(), cumulative.size() - 1);
}

void NumpyGenerator::advance(std::uint64_t draws) {
  Uint128 multiplier = 1, plus = 0, step_multiplier = kMultiplier, step_plus = increment_;
  for (; draws > 0; draws >>= 1) {
    if (draws & 1) {
      multiplier *= step_multiplier;
      plus = plus * step_multiplier + step_plus;
    }
    step_plus = (step_multiplier + 1) * step_plus;
    step_multiplier *= step_multiplier;
  }
  state_ = multiplier * state_ + plus;
  has_spare_ = false;
}

std::vector<double> cumulative_probabilities(std::span<const double> probabilities) {
  std::vector<double> sums(probabilities.size());
  std::partial_sum(probabilities.begin(), probabilities.end(), sums.begin());
  const double total = sums.empty() ? 1 : sums.back();
  for (double& sum : sums) sum /= total;
  return sums;
}

SampleRng::SampleRng(std::uint64_t seed, std::int64_t epoch, std::int64_t index) : state_(seed) {
  // Each part passes through the full mixing function before the next comes in, so near keys give unrelated streams.
  state_ = next_uint64() ^ static_cast<std::uint64_t>(epoch);
  state_ = next_uint64() ^ static_cast<std::uint64_t>(index);
  state_ = next_uint64();
}

std::uint64_t SampleRng::next_uint64() {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

std::int64_t SampleRng::below(std::int64_t bound) {
  return static_cast<std::int64_t>((static_cast<Uint128>(next_uint64()) * static_cast<std::uint64_t>(bound)) >> 64);
}

}  // namespace oumi
