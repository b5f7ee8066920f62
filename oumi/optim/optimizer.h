// Optimizers by name. All are torch::optim::Optimizers, so anything that takes one takes ours and ours takes any.
//
//   adamw_torch, adamw_torch_fused, adamw, paged_adamw, paged_adamw_32bit   AdamW (decoupled weight decay)
//   adam                                                                   Adam (weight decay added to the gradient)
//   sgd, adagrad, rmsprop                                                  as torch.optim
//   adamw_8bit, adamw_bnb_8bit, paged_adamw_8bit                           AdamW with 8-bit states, as bitsandbytes
//   adafactor                                                              as transformers.Adafactor
//   lion, lion_32bit, paged_lion_32bit                                     Chen et al. 2023, arXiv:2302.06675
//
// All AdamWs but adamw_torch, Adam, SGD and Adagrad run LibTorch's fused kernels: one pass over memory for parameter,
// gradient and state. adamw_torch goes tensor by tensor and rounds as PyTorch's does; it is slower for large models.
// Tensors that those kernels cannot address (gaps, or a gradient laid out unlike its parameter) are packed first; the
// kernels themselves would silently update the wrong elements. Paging is a matter of GPU memory and has no effect here.
#pragma once

#include <torch/optim/optimizer.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "oumi/optim/parameter_groups.h"

namespace oumi {

struct OptimizerOptions {
  std::string name = "adamw_torch_fused";  // case-insensitive
  double learning_rate = 5e-5;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double sgd_momentum = 0.0;
  // Names of parameters whose state stays float32 under 8-bit optimizers: embeddings, as Hugging Face.
  std::vector<std::string> full_precision_states{};
  // Further settings as "key=value,key=value". Keys by optimizer:
  //   adamw*, adam: beta1, beta2, eps; amsgrad but for 8 bits
  //   lion*: beta1, beta2
  //   sgd: momentum, dampening, nesterov                adagrad: lr_decay, eps, initial_accumulator_value
  //   rmsprop: momentum, alpha, eps, centered
  //   adafactor: eps1, eps2, clip_threshold, decay_rate, beta1, scale_parameter, relative_step, warmup_init
  // weight_decay is the groups' and refused here.
  std::string optim_args{};
};

using OptimizerFactory =
    std::function<std::unique_ptr<torch::optim::Optimizer>(const OptimizerOptions&, const std::vector<ParameterGroup>&)>;

// Throws UserError for a name that nobody knows (with the nearest one), a name that Hugging Face knows and we don't
// support, a bad value, or an unknown key in optim_args.
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerOptions& options,
                                                        const std::vector<ParameterGroup>& groups);

// Adds a name. Throws UserError when it is taken. Safe to call from several threads.
void register_optimizer(const std::string& name, OptimizerFactory factory);

// The names that make_optimizer takes, sorted.
std::vector<std::string> optimizer_names();

}  // namespace oumi
