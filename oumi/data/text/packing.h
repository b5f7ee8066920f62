// Which samples share a row, planned from their lengths alone. No torch here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oumi {

// kBestFit keeps samples whole and apart; the others join them into one text without boundaries.
enum class PackingStrategy {
  kBestFit,       // "bfd": best fit, longest first; samples longer than a row are cut. Attention stays within a sample
  kBestFitSplit,  // "bfd_split": as above, but the rest of a longer sample becomes a sample of its own
  kWrapped,       // "wrapped": TRL's; all tokens in a row, cut every seq_length; the last row may be shorter
  kConcatenated,  // "concatenated": Oumi's; an end-of-text token after each sample, every token trained on, the last row filled
                  // up
};

// Throws UserError naming `key`.
PackingStrategy parse_packing_strategy(const std::string& name, const std::string& key);

// Tokens [begin, begin + size) of sample `sample`.
struct PackedPiece {
  std::int64_t sample;
  std::int64_t begin;
  std::int64_t size;

  bool operator==(const PackedPiece&) const = default;
};

using PackedRow = std::vector<PackedPiece>;

// Rows of at most `capacity` tokens. Best fit, longest first: each sample goes where the least room is left that still holds
// it; rows are in the order in which they were begun, equal lengths in their own order. Empty samples are left out. `split`
// cuts longer samples into pieces instead of dropping what doesn't fit. O(n log n).
struct BestFitOptions {
  std::int64_t capacity = 0;
  bool split = false;
};
std::vector<PackedRow> pack_best_fit(std::span<const std::int64_t> lengths, const BestFitOptions& options);

// All samples in a row, cut every `capacity` tokens; `separator` tokens follow each sample (named by begin == its length).
std::vector<PackedRow> pack_wrapped(std::span<const std::int64_t> lengths, std::int64_t capacity, std::int64_t separator = 0);

// Oumi's PackedSftDataset: samples in their order, a separator of one token between two of a row where asked for. Samples that
// are too long are cut, and rows filled to the brim, with `split_samples`; without it too long ones are left out.
struct GreedyPackOptions {
  std::int64_t capacity = 0;
  bool split_samples = false;
  bool separator = false;
};
// A separator is a piece of sample -1.
std::vector<PackedRow> pack_greedily(std::span<const std::int64_t> lengths, const GreedyPackOptions& options);

}  // namespace oumi
