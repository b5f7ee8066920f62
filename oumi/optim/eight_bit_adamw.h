// AdamW whose moments are held in 8 bits, block by block (Dettmers et al. 2021, arXiv:2110.02861), as bitsandbytes: dynamic
// maps, blocks of 256, float32 for parameters of fewer than 4096 elements and those that are named. A quarter of AdamW's
// memory for state. On the CPU.
#pragma once

#include <string>
#include <unordered_set>

#include "oumi/optim/optimizer_base.h"

namespace oumi {

struct EightBitAdamSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
};

// Slots, by bitsandbytes' names: state1 and state2 (the moments) in uint8 and the parameter's shape with absmax1 and absmax2
// (float32, one a block), or state1 and state2 in float32. Weights are float32 or bfloat16; arithmetic is float32.
class EightBitAdamW final : public OptimizerBase {
 public:
  EightBitAdamW(const std::vector<ParameterGroup>& groups, double learning_rate, EightBitAdamSettings settings,
                const std::vector<std::string>& full_precision);
  std::string kind() const override { return "adamw_8bit"; }
  Json hyperparameters() const override;
  void load_hyperparameters(const Json& values) override;
  TensorDict make_slots(const Tensor& parameter) const override;

 protected:
  void update(const GroupOptions& group, const std::vector<Item>& items) override;

 private:
  EightBitAdamSettings settings_;
  std::unordered_set<const void*> full_precision_;
};

}  // namespace oumi
