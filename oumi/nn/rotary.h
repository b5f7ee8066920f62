// Rotary position embedding: the frequencies of each scaling rule, and the tables of one forward.
// Rules and their formulas as in transformers/modeling_rope_utils.py.
#pragma once

#include <cstdint>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi::nn {

enum class RotaryType { kDefault, kLinear, kDynamic, kYarn, kLongRope, kLlama3 };

struct RotaryConfig {
  RotaryType type = RotaryType::kDefault;
  double theta = 10000;
  std::int64_t dim = 0;                      // rotated channels of a head; even
  double factor = 1;                         // context length over the original one
  std::int64_t max_position_embeddings = 0;  // kDynamic: beyond it, the base grows
  std::int64_t original_max_position_embeddings = 0;
  double attention_factor = 1;                       // multiplies cos and sin (kYarn, kLongRope)
  double low_freq_factor = 1, high_freq_factor = 4;  // kLlama3
  double beta_fast = 32, beta_slow = 1;              // kYarn
  bool truncate = true;
  std::vector<double> short_factor, long_factor;  // kLongRope, dim/2 each
};

// cos and sin, float32 [T, dim/2] or [B, T, dim/2].
struct RotaryTable {
  Tensor cos, sin;
};

// The inverse frequencies, float32 [dim/2]. `length` is the largest position + 1 of the forward: kDynamic and kLongRope depend
// on it. A function of the forward alone: where Transformers remembers an earlier, longer one (kDynamic), this doesn't.
Tensor rotary_frequencies(const RotaryConfig& config, std::int64_t length);

// For integer positions [T] or [B, T].
RotaryTable rotary_table(const RotaryConfig& config, const Tensor& position_ids);

}  // namespace oumi::nn
