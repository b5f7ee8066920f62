// The state of LibTorch's own optimizers under PyTorch's names.
#include <ATen/ops/zeros_like.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include "oumi/optim/settings_reader.h"
#include "oumi/optim/state_access.h"

namespace oumi {
namespace {

template <class Options>
Json adam_settings(const Options& options) {
  return {{"betas", {std::get<0>(options.betas()), std::get<1>(options.betas())}},
          {"eps", options.eps()},
          {"amsgrad", options.amsgrad()}};
}

template <class Options>
void load_adam_settings(Options& options, const Json& values) {
  double beta1 = 0, beta2 = 0;
  read_betas(values, beta1, beta2);
  options.betas({beta1, beta2}).eps(setting<double>(values, "eps")).amsgrad(setting<bool>(values, "amsgrad"));
}

template <class State>
void read_adam(const State& state, ParameterState& out) {
  out.step = state.step();
  out.slots.set("exp_avg", state.exp_avg());
  out.slots.set("exp_avg_sq", state.exp_avg_sq());
  if (state.max_exp_avg_sq().defined()) out.slots.set("max_exp_avg_sq", state.max_exp_avg_sq());
}

template <class State>
void write_adam(State& state, const ParameterState& in) {
  state.step(in.step).exp_avg(in.slots.at("exp_avg")).exp_avg_sq(in.slots.at("exp_avg_sq"));
  if (const Tensor* maximum = in.slots.find("max_exp_avg_sq")) state.max_exp_avg_sq(*maximum);
}

template <class Options>
std::vector<std::string> adam_slots(const Options& options) {
  std::vector<std::string> slots = {"exp_avg", "exp_avg_sq"};
  if (options.amsgrad()) slots.push_back("max_exp_avg_sq");
  return slots;
}

// Adam and AdamW, whose options and states are alike.
template <class OptimizerType, class OptionsType, class StateType>
struct AdamLikeTraits {
  using Optimizer = OptimizerType;
  using Options = OptionsType;
  using State = StateType;
  static constexpr bool kCountsSteps = true;
  static Json settings(const Options& options) { return adam_settings(options); }
  static void load_settings(Options& options, const Json& values) { load_adam_settings(options, values); }
  static std::vector<std::string> slots(const Options& options) { return adam_slots(options); }
  static void read(const State& state, ParameterState& out) { read_adam(state, out); }
  static void write(State& state, const ParameterState& in) { write_adam(state, in); }
};

struct AdamTraits : AdamLikeTraits<torch::optim::Adam, torch::optim::AdamOptions, torch::optim::AdamParamState> {
  static constexpr const char* kKind = "adam";
};

struct AdamWTraits : AdamLikeTraits<torch::optim::AdamW, torch::optim::AdamWOptions, torch::optim::AdamWParamState> {
  static constexpr const char* kKind = "adamw";
};

struct SgdTraits {
  using Optimizer = torch::optim::SGD;
  using Options = torch::optim::SGDOptions;
  using State = torch::optim::SGDParamState;
  static constexpr const char* kKind = "sgd";
  static constexpr bool kCountsSteps = false;
  static Json settings(const Options& options) {
    return {{"momentum", options.momentum()}, {"dampening", options.dampening()}, {"nesterov", options.nesterov()}};
  }
  static void load_settings(Options& options, const Json& values) {
    options.momentum(setting<double>(values, "momentum"))
        .dampening(setting<double>(values, "dampening"))
        .nesterov(setting<bool>(values, "nesterov"));
  }
  static std::vector<std::string> slots(const Options& options) {
    return options.momentum() != 0 ? std::vector<std::string>{"momentum_buffer"} : std::vector<std::string>{};
  }
  static void read(const State& state, ParameterState& out) {
    out.step = 1;  // not kept; the buffer's presence is what says that there was a first step
    if (state.momentum_buffer().defined()) out.slots.set("momentum_buffer", state.momentum_buffer());
  }
  static void write(State& state, const ParameterState& in) {
    if (const Tensor* buffer = in.slots.find("momentum_buffer")) state.momentum_buffer(*buffer);
  }
};

struct AdagradTraits {
  using Optimizer = torch::optim::Adagrad;
  using Options = torch::optim::AdagradOptions;
  using State = torch::optim::AdagradParamState;
  static constexpr const char* kKind = "adagrad";
  static constexpr bool kCountsSteps = true;
  static Json settings(const Options& options) {
    return {{"lr_decay", options.lr_decay()},
            {"eps", options.eps()},
            {"initial_accumulator_value", options.initial_accumulator_value()}};
  }
  static void load_settings(Options& options, const Json& values) {
    options.lr_decay(setting<double>(values, "lr_decay"))
        .eps(setting<double>(values, "eps"))
        .initial_accumulator_value(setting<double>(values, "initial_accumulator_value"));
  }
  static std::vector<std::string> slots(const Options&) { return {"sum"}; }
  static void read(const State& state, ParameterState& out) {
    out.step = state.step();
    out.slots.set("sum", state.sum());
  }
  static void write(State& state, const ParameterState& in) { state.step(in.step).sum(in.slots.at("sum")); }
};

struct RmspropTraits {
  using Optimizer = torch::optim::RMSprop;
  using Options = torch::optim::RMSpropOptions;
  using State = torch::optim::RMSpropParamState;
  static constexpr const char* kKind = "rmsprop";
  static constexpr bool kCountsSteps = true;
  static Json settings(const Options& options) {
    return {
        {"alpha", options.alpha()}, {"eps", options.eps()}, {"momentum", options.momentum()}, {"centered", options.centered()}};
  }
  static void load_settings(Options& options, const Json& values) {
    options.alpha(setting<double>(values, "alpha"))
        .eps(setting<double>(values, "eps"))
        .momentum(setting<double>(values, "momentum"))
        .centered(setting<bool>(values, "centered"));
  }
  static std::vector<std::string> slots(const Options& options) {
    std::vector<std::string> slots = {"square_avg"};
    if (options.momentum() > 0) slots.push_back("momentum_buffer");
    if (options.centered()) slots.push_back("grad_avg");
    return slots;
  }
  static void read(const State& state, ParameterState& out) {
    out.step = state.step();
    out.slots.set("square_avg", state.square_avg());
    if (state.momentum_buffer().defined()) out.slots.set("momentum_buffer", state.momentum_buffer());
    if (state.grad_avg().defined()) out.slots.set("grad_avg", state.grad_avg());
  }
  static void write(State& state, const ParameterState& in) {
    state.step(in.step).square_avg(in.slots.at("square_avg"));
    if (const Tensor* buffer = in.slots.find("momentum_buffer")) state.momentum_buffer(*buffer);
    if (const Tensor* average = in.slots.find("grad_avg")) state.grad_avg(*average);
  }
};

template <class Traits>
class LibtorchAdapter final : public StateAdapter {
 public:
  using Options = typename Traits::Options;
  using State = typename Traits::State;

  explicit LibtorchAdapter(torch::optim::Optimizer& optimizer) : optimizer_(optimizer) {}
  std::string kind() const override { return Traits::kKind; }
  bool counts_steps() const override { return Traits::kCountsSteps; }

  // LibTorch keeps these by group; ours are the optimizer's. Groups that differ cannot be told apart in a saved state.
  Json hyperparameters() const override {
    Json settings;
    for (std::size_t group = 0; group < optimizer_.param_groups().size(); ++group) {
      Json own = Traits::settings(options(group));
      if (group > 0 && own != settings) {
        throw UserError("training.optimizer",
                        cat("parameter groups that differ in more than lr and weight_decay cannot be saved: expected ",
                            settings.dump(), " in group ", group, ", got ", own.dump()));
      }
      settings = std::move(own);
    }
    return settings;
  }

  void load_hyperparameters(const Json& values) override {
    for (std::size_t group = 0; group < optimizer_.param_groups().size(); ++group) {
      Options loaded = options(group);
      Traits::load_settings(loaded, values);  // throws at the first group, before anything has changed
      options(group) = loaded;
    }
  }

  double weight_decay(std::size_t group) const override { return options(group).weight_decay(); }
  void set_weight_decay(std::size_t group, double value) override { options(group).weight_decay(value); }

  std::optional<ParameterState> read(const Tensor& parameter) const override {
    const auto found = optimizer_.state().find(parameter.unsafeGetTensorImpl());
    if (found == optimizer_.state().end()) return std::nullopt;
    ParameterState state;
    Traits::read(static_cast<const State&>(*found->second), state);
    return state;
  }

  TensorDict make_slots(const Tensor& parameter) const override {
    TensorDict slots;
    for (const std::string& name : Traits::slots(options(0))) slots.set(name, at::zeros_like(parameter));
    return slots;
  }

  void install(const Tensor& parameter, ParameterState state) override {
    auto installed = std::make_unique<State>();
    Traits::write(*installed, state);
    optimizer_.state()[parameter.unsafeGetTensorImpl()] = std::move(installed);
  }

 private:
  Options& options(std::size_t group) const { return static_cast<Options&>(optimizer_.param_groups()[group].options()); }

  torch::optim::Optimizer& optimizer_;
};

template <class Traits>
std::unique_ptr<StateAdapter> adapter_for(torch::optim::Optimizer& optimizer) {
  if (dynamic_cast<typename Traits::Optimizer*>(&optimizer) == nullptr) return nullptr;
  return std::make_unique<LibtorchAdapter<Traits>>(optimizer);
}

}  // namespace

std::unique_ptr<StateAdapter> make_libtorch_adapter(torch::optim::Optimizer& optimizer) {
  std::unique_ptr<StateAdapter> adapter = adapter_for<AdamTraits>(optimizer);
  if (adapter == nullptr) adapter = adapter_for<AdamWTraits>(optimizer);
  if (adapter == nullptr) adapter = adapter_for<SgdTraits>(optimizer);
  if (adapter == nullptr) adapter = adapter_for<AdagradTraits>(optimizer);
  if (adapter == nullptr) adapter = adapter_for<RmspropTraits>(optimizer);
  return adapter;
}

}  // namespace oumi
