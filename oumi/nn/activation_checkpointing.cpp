#include "oumi/nn/activation_checkpointing.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/tensors/class_name.h"

namespace oumi::nn {
namespace {

// Random state and autocast of a moment on a device.
class Surroundings {
 public:
  explicit Surroundings(c10::Device device)
      : device_(device),
        cpu_(at::globalContext().defaultGenerator(at::kCPU).get_state()),
        autocast_(at::autocast::is_autocast_enabled(device.type())),
        dtype_(at::autocast::get_autocast_dtype(device.type())) {
    if (!device_.is_cpu()) accelerator_ = at::globalContext().defaultGenerator(device_).get_state();
  }

  void restore_random_state() const {
    at::Generator(at::globalContext().defaultGenerator(at::kCPU)).set_state(cpu_);
    if (accelerator_.defined()) at::Generator(at::globalContext().defaultGenerator(device_)).set_state(accelerator_);
  }
  void restore_autocast() const {
    at::autocast::set_autocast_enabled(device_.type(), autocast_);
    at::autocast::set_autocast_dtype(device_.type(), dtype_);
  }

 private:
  c10::Device device_;
  Tensor cpu_, accelerator_;
  bool autocast_;
  at::ScalarType dtype_;
};

// Goes back to `then` for a scope.
class Return {
 public:
  Return(const Surroundings& then, c10::Device device) : now_(device) {
    then.restore_random_state();
    then.restore_autocast();
    at::autocast::increment_nesting();
  }
  ~Return() {
    // The cache holds casts made inside this scope, with graphs that end in it.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    now_.restore_autocast();
    now_.restore_random_state();
  }
  Return(const Return&) = delete;
  Return& operator=(const Return&) = delete;

 private:
  Surroundings now_;
};

// What backward needs to run the unit again.
struct Replay : torch::CustomClassHolder {
  Replay(Module& unit, CallWrapper::Function function, c10::Device where)
      : module(&unit), forward(std::move(function)), device(where), surroundings(where) {}
  Module* module;  // alive: its parameters are in the graph's way, and a model outlives its step
  CallWrapper::Function forward;
  c10::Device device;
  Surroundings surroundings;
};

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Recompute : torch::autograd::Function<Recompute> {
  // `anchor` requires a gradient, so that the outputs do even when only parameters of the unit do.
  static variable_list forward(AutogradContext* context, const c10::intrusive_ptr<Replay>& replay, const Tensor& anchor,
                               at::TensorList inputs) {
    (void)anchor;
    context->save_for_backward(inputs.vec());
    context->saved_data["replay"] = at::IValue::make_capsule(replay);
    return replay->forward(inputs.vec());
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto replay = c10::static_intrusive_pointer_cast<Replay>(context->saved_data.at("replay").toCapsule());
    variable_list inputs;
    for (const Tensor& saved : context->get_saved_variables()) {
      inputs.push_back(saved.defined() ? saved.detach().set_requires_grad(saved.requires_grad()) : saved);
    }
    variable_list outputs, wanted;
    {
      const Return back(replay->surroundings, replay->device);
      const c10::AutoGradMode enable_grad(true);
      const call_path::Frame frame(*replay->module);
      const variable_list all = replay->forward(inputs);
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (!all[i].defined() || !all[i].requires_grad() || !gradients[i].defined()) continue;
        outputs.push_back(all[i]);
        wanted.push_back(gradients[i]);
      }
    }
    if (!outputs.empty()) torch::autograd::backward(outputs, wanted);
    variable_list results(2);  // of the replay and the anchor
    for (const Tensor& input : inputs) results.push_back(input.defined() ? input.grad() : Tensor());
    return results;
  }
};

class ActivationCheckpoint final : public CallWrapper {
 public:
  std::vector<Tensor> run(Module& module, const Function& forward, std::vector<Tensor> arguments) override {
    const auto needs_grad = [](const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); };
    std::vector<Tensor> parameters;
    if (c10::GradMode::is_enabled()) parameters = module.parameters();
    const bool differentiable = c10::GradMode::is_enabled() && (std::any_of(arguments.begin(), arguments.end(), needs_grad) ||
                                                                std::any_of(parameters.begin(), parameters.end(), needs_grad));
    if (!differentiable) return forward(std::move(arguments));
    const auto first = std::find_if(arguments.begin(), arguments.end(), [](const Tensor& tensor) { return tensor.defined(); });
    const c10::Device device = first == arguments.end() ? c10::Device(at::kCPU) : first->device();
    const Tensor anchor = at::empty({0}, at::TensorOptions().dtype(at::kFloat).device(device)).set_requires_grad(true);
    return Recompute::apply(c10::make_intrusive<Replay>(module, forward, device), anchor, at::TensorList(arguments));
  }
};

}  // namespace

std::int64_t checkpoint_activations(torch::nn::Module& root, const std::vector<std::string>& classes,
                                    const CheckpointOptions& options) {
  if (options.every_n < 1)
    throw UserError("training.gradient_checkpointing_kwargs.every_n_layers", cat("expected at least 1, got ", options.every_n));
  const auto wrapper = std::make_shared<ActivationCheckpoint>();
  std::set<std::string> present;
  std::int64_t units = 0, checkpointed = 0;
  for (const auto& item : root.named_modules("", /*include_self=*/false)) {
    const torch::nn::Module& module = *item.value();
    const std::string name = class_name(typeid(module));
    present.insert(name);
    const bool matches = std::any_of(classes.begin(), classes.end(),
                                     [&](const std::string& wanted) { return wanted == name || wanted == item.key(); });
    if (!matches) continue;
    auto* unit = dynamic_cast<Module*>(item.value().get());
    if (unit == nullptr) {
      throw UserError("training.gradient_checkpointing_kwargs.layer_classes",
                      cat("expected modules on our call path, got ", item.key(), ", a torch module of class ", name),
                      "derive it from oumi::Module and hold it by OUMI_MODULE, or name a unit around it");
    }
    if (units++ % options.every_n != 0) continue;
    unit->set_call_wrapper(wrapper);
    ++checkpointed;
  }
  if (units == 0) {
    throw UserError("training.gradient_checkpointing_kwargs.layer_classes",
                    cat("expected classes of the model's modules, got ", join(classes, ", ")),
                    cat("the model has ", join({present.begin(), present.end()}, ", ")));
  }
  return checkpointed;
}

void keep_activations(torch::nn::Module& root) {
  for (const auto& module : root.modules(/*include_self=*/true)) {
    if (auto* unit = dynamic_cast<Module*>(module.get())) unit->set_call_wrapper(nullptr);
  }
}

}  // namespace oumi::nn
