#include "oumi/nn/rotary.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace oumi::nn {
namespace {

// base^(2i / dim), float32 like the reference: the last bits of the frequencies decide those of the logits.
Tensor position_frequencies(double base, std::int64_t dim) {
  return at::pow(at::Scalar(base), at::arange(0, dim, 2, at::kFloat).div(static_cast<double>(dim)));
}

// Peng et al. 2023, arXiv:2309.00071: short waves stay, long ones are interpolated, with a ramp between.
Tensor yarn_frequencies(const RotaryConfig& config) {
  const auto correction_dim = [&](double rotations) {
    return static_cast<double>(config.dim) *
           std::log(static_cast<double>(config.original_max_position_embeddings) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = correction_dim(config.beta_fast), high = correction_dim(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.dim - 1));
  if (low == high) high += 0.001;
  const Tensor ramp = at::arange(config.dim / 2, at::kFloat).sub(low).div(high - low).clamp(0, 1);
  const Tensor frequencies = position_frequencies(config.theta, config.dim);
  const Tensor extrapolated = frequencies.reciprocal(), interpolated = frequencies.mul(config.factor).reciprocal();
  const Tensor keep = 1 - ramp;
  return interpolated * (1 - keep) + extrapolated * keep;
}

// Llama 3.1: by wavelength against the original context.
Tensor llama3_frequencies(const RotaryConfig& config) {
  const Tensor plain = position_frequencies(config.theta, config.dim).reciprocal();
  const auto context = static_cast<double>(config.original_max_position_embeddings);
  const double low_wavelength = context / config.low_freq_factor, high_wavelength = context / config.high_freq_factor;
  const Tensor wavelength = plain.reciprocal().mul(2 * std::numbers::pi);
  const Tensor scaled = at::where(wavelength > low_wavelength, plain / config.factor, plain);
  const Tensor smooth =
      (wavelength.reciprocal().mul(context) - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  const Tensor between = (1 - smooth) * scaled / config.factor + smooth * scaled;
  return at::where((wavelength >= high_wavelength).logical_and(wavelength <= low_wavelength), between, scaled);
}

}  // namespace

Tensor rotary_frequencies(const RotaryConfig& config, std::int64_t length) {
  switch (config.type) {
    case RotaryType::kDefault: return position_frequencies(config.theta, config.dim).reciprocal();
    case RotaryType::kLinear: return position_frequencies(config.theta, config.dim).reciprocal().div(config.factor);
    case RotaryType::kDynamic: {
      const auto limit = static_cast<double>(config.max_position_embeddings);
      const double stretch = config.factor * std::max(static_cast<double>(length), limit) / limit - (config.factor - 1);
      const auto dim = static_cast<double>(config.dim);
      return position_frequencies(config.theta * std::pow(stretch, dim / (dim - 2)), config.dim).reciprocal();
    }
    case RotaryType::kYarn: return yarn_frequencies(config);
    case RotaryType::kLlama3: return llama3_frequencies(config);
    case RotaryType::kLongRope: {
      const auto& factors = length > config.original_max_position_embeddings ? config.long_factor : config.short_factor;
      return at::tensor(factors, at::kFloat).mul(position_frequencies(config.theta, config.dim)).reciprocal();
    }
  }
  return {};
}

RotaryTable rotary_table(const RotaryConfig& config, const Tensor& position_ids) {
  const bool by_length = config.type == RotaryType::kDynamic || config.type == RotaryType::kLongRope;
  const std::int64_t length = by_length && position_ids.numel() > 0 ? position_ids.max().item<std::int64_t>() + 1 : 0;
  const Tensor angles =
      position_ids.to(at::kFloat).unsqueeze(-1) * rotary_frequencies(config, length).to(position_ids.device());
  RotaryTable table{angles.cos(), angles.sin()};
  if (config.attention_factor != 1) {
    table.cos.mul_(config.attention_factor);
    table.sin.mul_(config.attention_factor);
  }
  return table;
}

}  // namespace oumi::nn
