#include "oumi/optim/eight_bit_adamw.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "oumi/kernels/blockwise.h"
#include "oumi/kernels/cpu/parallel.h"
#include "oumi/optim/settings_reader.h"

namespace oumi {
namespace {

constexpr std::int64_t kBlock = kernels::kEightBitBlock;
constexpr std::int64_t kLeastEightBit = 4096;  // elements; bitsandbytes' min_8bit_size

// One update's constants.
struct Step {
  float beta1, beta2, eps;
  float decay;              // factor on the weight
  float step_size;          // learning rate over the first bias correction, negative
  float second_correction;  // square root of the second one
};

// A block of values on their way through an update.
struct Block {
  std::array<float, kBlock> first, second;
};

template <class Value>
void update_values(Value* weights, const Value* gradients, Block& moments, std::int64_t count, const Step& step) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto gradient = static_cast<float>(gradients[i]);
    moments.first[at] = moments.first[at] * step.beta1 + (1.0F - step.beta1) * gradient;
    moments.second[at] = moments.second[at] * step.beta2 + (1.0F - step.beta2) * gradient * gradient;
    const float denominator = std::sqrt(moments.second[at]) / step.second_correction + step.eps;
    weights[i] =
        static_cast<Value>(static_cast<float>(weights[i]) * step.decay + step.step_size * (moments.first[at] / denominator));
  }
}

void read_codes(std::array<float, kBlock>& values, const std::uint8_t* codes, float absmax, std::int64_t count,
                const kernels::EightBitMap& map) {
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = map[codes[i]] * absmax;
}

float write_codes(const std::array<float, kBlock>& values, std::uint8_t* codes, std::int64_t count,
                  const kernels::EightBitMap& map) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[static_cast<std::size_t>(i)]));
  const float scale = 1.0F / std::max(largest, 1e-38F);
  for (std::int64_t i = 0; i < count; ++i)
    codes[i] = map.nearest(std::clamp(values[static_cast<std::size_t>(i)] * scale, -1.0F, 1.0F));
  return largest;
}

template <class Value>
void update_8bit(const Tensor& parameter, const Tensor& gradient, TensorDict& slots, const Step& step) {
  const kernels::EightBitMap &with_sign = kernels::dynamic_map(kernels::DynamicMap::kSigned),
                             &without_sign = kernels::dynamic_map(kernels::DynamicMap::kUnsigned);
  auto* weights = parameter.mutable_data_ptr<Value>();
  const auto* gradients = gradient.const_data_ptr<Value>();
  auto *first = slots.at("state1").mutable_data_ptr<std::uint8_t>(),
       *second = slots.at("state2").mutable_data_ptr<std::uint8_t>();
  auto *absmax1 = slots.at("absmax1").mutable_data_ptr<float>(), *absmax2 = slots.at("absmax2").mutable_data_ptr<float>();
  const std::int64_t size = parameter.numel();
  kernels::cpu::parallel_for(0, (size + kBlock - 1) / kBlock, 16, [&](std::int64_t begin, std::int64_t end) {
    Block moments;
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t at = block * kBlock, count = std::min(kBlock, size - at);
      read_codes(moments.first, first + at, absmax1[block], count, with_sign);
      read_codes(moments.second, second + at, absmax2[block], count, without_sign);
      update_values(weights + at, gradients + at, moments, count, step);
      absmax1[block] = write_codes(moments.first, first + at, count, with_sign);
      absmax2[block] = write_codes(moments.second, second + at, count, without_sign);
    }
  });
}

template <class Value>
void update_32bit(const Tensor& parameter, const Tensor& gradient, TensorDict& slots, const Step& step) {
  auto* weights = parameter.mutable_data_ptr<Value>();
  const auto* gradients = gradient.const_data_ptr<Value>();
  auto *first = slots.at("state1").mutable_data_ptr<float>(), *second = slots.at("state2").mutable_data_ptr<float>();
  const std::int64_t size = parameter.numel();
  kernels::cpu::parallel_for(0, (size + kBlock - 1) / kBlock, 16, [&](std::int64_t begin, std::int64_t end) {
    Block moments;
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t at = block * kBlock, count = std::min(kBlock, size - at);
      std::copy_n(first + at, count, moments.first.begin());
      std::copy_n(second + at, count, moments.second.begin());
      update_values(weights + at, gradients + at, moments, count, step);
      std::copy_n(moments.first.begin(), count, first + at);
      std::copy_n(moments.second.begin(), count, second + at);
    }
  });
}

}  // namespace

EightBitAdamW::EightBitAdamW(const std::vector<ParameterGroup>& groups, double learning_rate, EightBitAdamSettings settings,
                             const std::vector<std::string>& full_precision)
    : OptimizerBase(groups, learning_rate), settings_(settings) {
  for (const ParameterGroup& group : groups) {
    for (const auto& [name, parameter] : group.parameters) {
      if (!parameter.is_cpu() || (parameter.scalar_type() != at::kFloat && parameter.scalar_type() != at::kBFloat16)) {
        throw UserError("training.optimizer", cat("8-bit states need float32 or bfloat16 weights on the CPU, got ", name,
                                                  " of ", parameter.toString()));
      }
      if (std::find(full_precision.begin(), full_precision.end(), name) != full_precision.end())
        full_precision_.insert(parameter.unsafeGetTensorImpl());
    }
  }
}

Json EightBitAdamW::hyperparameters() const { return {{"betas", {settings_.beta1, settings_.beta2}}, {"eps", settings_.eps}}; }

void EightBitAdamW::load_hyperparameters(const Json& values) {
  EightBitAdamSettings loaded = settings_;
  read_betas(values, loaded.beta1, loaded.beta2);
  loaded.eps = setting<double>(values, "eps");
  settings_ = loaded;
}

TensorDict EightBitAdamW::make_slots(const Tensor& parameter) const {
  const auto wide = at::TensorOptions().dtype(at::kFloat);
  if (parameter.numel() < kLeastEightBit || full_precision_.contains(parameter.unsafeGetTensorImpl())) {
    return {{"state1", at::zeros(parameter.sizes(), wide)}, {"state2", at::zeros(parameter.sizes(), wide)}};
  }
  const auto codes = at::TensorOptions().dtype(at::kByte);
  const std::int64_t blocks = (parameter.numel() + kBlock - 1) / kBlock;
  return {{"state1", at::zeros(parameter.sizes(), codes)},
          {"state2", at::zeros(parameter.sizes(), codes)},
          {"absmax1", at::zeros({blocks}, wide)},
          {"absmax2", at::zeros({blocks}, wide)}};
}

void EightBitAdamW::update(const GroupOptions& group, const std::vector<Item>& items) {
  for (const Item& item : items) {
    const auto count = static_cast<double>(item.state->step);
    const double rate = group.get_lr();
    const Step step{.beta1 = static_cast<float>(settings_.beta1),
                    .beta2 = static_cast<float>(settings_.beta2),
                    .eps = static_cast<float>(settings_.eps),
                    .decay = static_cast<float>(1.0 - rate * group.weight_decay()),
                    .step_size = static_cast<float>(-rate / (1.0 - std::pow(settings_.beta1, count))),
                    .second_correction = static_cast<float>(std::sqrt(1.0 - std::pow(settings_.beta2, count)))};
    // Codes lie in C order, whatever the weight's layout.
    Tensor parameter = item.parameter.contiguous();
    const Tensor gradient = item.gradient.to(parameter.scalar_type()).contiguous();
    TensorDict& slots = item.state->slots;
    const bool narrow = slots.contains("absmax1");
    if (parameter.scalar_type() == at::kFloat) {
      narrow ? update_8bit<float>(parameter, gradient, slots, step) : update_32bit<float>(parameter, gradient, slots, step);
    } else {
      narrow ? update_8bit<at::BFloat16>(parameter, gradient, slots, step)
             : update_32bit<at::BFloat16>(parameter, gradient, slots, step);
    }
    if (!item.parameter.is_contiguous()) Tensor(item.parameter).copy_(parameter);
  }
}

}  // namespace oumi
