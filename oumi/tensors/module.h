// The module call path. LibTorch's C++ modules have no hooks and a holder calls `forward` directly, so nothing can act
// around a module's forward. Ours can: calling an oumi::Module (through its holder, or a Model through operator()) runs
// pre hooks, forward and post hooks, and an error inside names the module's path (`SimpleModel.fc1: expected ...`).
// Sharding units, activation checkpointing and adapters stand on this.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "oumi/tensors/batch.h"

namespace oumi {

class Module;

// The tensors of a call's arguments or results, by address: a hook may replace them.
using TensorRefs = std::vector<Tensor*>;

// Acts around a module's forward. `before` sees the arguments, `after` the results; both may replace tensors.
class CallHook {
 public:
  virtual ~CallHook() = default;
  virtual void before(Module& module, const TensorRefs& arguments) { (void)module, (void)arguments; }
  virtual void after(Module& module, const TensorRefs& results) { (void)module, (void)results; }
};

// Runs a module's forward in its own way, now and perhaps again later: what activation checkpointing stands on.
class CallWrapper {
 public:
  // Takes the call's tensors in TensorRefs' order (some may be undefined) and returns the results' tensors. May be called again
  // after the call has ended; holds what the call needs beside tensors, and none of the tensors themselves.
  using Function = std::function<std::vector<Tensor>(std::vector<Tensor>)>;
  virtual ~CallWrapper() = default;
  virtual std::vector<Tensor> run(Module& module, const Function& forward, std::vector<Tensor> arguments) = 0;
};

// A torch::nn::Module with the call path.
class Module : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;

  // Hooks run in the order of registration before forward and in the reverse order after it.
  void add_call_hook(std::shared_ptr<CallHook> hook) { hooks_.push_back(std::move(hook)); }
  void clear_call_hooks() { hooks_.clear(); }
  const std::vector<std::shared_ptr<CallHook>>& call_hooks() const noexcept { return hooks_; }

  // Runs forward inside the hooks: `before` sees the arguments first, `after` the results last. nullptr takes it away. Tensors
  // inside arguments of unknown types (structs) are not the wrapper's business: they must need no gradient.
  void set_call_wrapper(std::shared_ptr<CallWrapper> wrapper) { wrapper_ = std::move(wrapper); }
  const std::shared_ptr<CallWrapper>& call_wrapper() const noexcept { return wrapper_; }

 private:
  std::vector<std::shared_ptr<CallHook>> hooks_;
  std::shared_ptr<CallWrapper> wrapper_;
};

namespace call_path {

// Marks `module` as being called on this thread for the scope's length.
class Frame {
 public:
  explicit Frame(Module& module);
  ~Frame();
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
};

// "SimpleModel.fc1": the modules being called on this thread, outermost first, by class name and then by child names.
std::string current_path();

// Turns an error of a tensor operation inside forward into a UserError that names the path. Call inside a catch block;
// errors of ours and std::bad_alloc pass through unchanged.
[[noreturn]] void rethrow_with_path();

inline void collect(TensorRefs& refs, Tensor& tensor) { refs.push_back(&tensor); }
inline void collect(TensorRefs& refs, TensorDict& dict) {
  for (auto& entry : dict) refs.push_back(&entry.second);
}
inline void collect(TensorRefs& refs, std::optional<Tensor>& tensor) {
  if (tensor) refs.push_back(&*tensor);
}
template <class... Ts>
void collect(TensorRefs& refs, std::tuple<Ts...>& values);
template <class A, class B>
void collect(TensorRefs& refs, std::pair<A, B>& values);
template <class T>
void collect(TensorRefs&, T&) {}  // scalars, options: not a hook's business
template <class... Ts>
void collect(TensorRefs& refs, std::tuple<Ts...>& values) {
  std::apply([&](auto&... value) { (collect(refs, value), ...); }, values);
}

template <class A, class B>
void collect(TensorRefs& refs, std::pair<A, B>& values) {
  collect(refs, values.first);
  collect(refs, values.second);
}

template <class T>
std::vector<Tensor> tensors_of(T& values) {
  TensorRefs refs;
  collect(refs, values);
  std::vector<Tensor> tensors;
  for (const Tensor* tensor : refs) tensors.push_back(*tensor);
  return tensors;
}
template <class T>
void replace_tensors(T& values, std::vector<Tensor> tensors) {
  TensorRefs refs;
  collect(refs, values);
  for (std::size_t i = 0; i < refs.size(); ++i) *refs[i] = std::move(tensors[i]);
}

// `forward(arguments...)` through the module's wrapper.
template <class Forward, class Arguments>
auto call_wrapped(Module& module, const Forward& forward, Arguments& arguments) {
  using Result = std::decay_t<decltype(std::apply(forward, arguments))>;
  std::vector<Tensor> inputs = tensors_of(arguments);
  const auto blank = std::make_shared<Arguments>(arguments);
  replace_tensors(*blank, std::vector<Tensor>(inputs.size()));
  const auto result = std::make_shared<std::optional<Result>>();  // alive during this call alone: a later run leaves no result
  const CallWrapper::Function function = [forward, blank,
                                          kept = std::weak_ptr<std::optional<Result>>(result)](std::vector<Tensor> tensors) {
    Arguments filled = *blank;
    replace_tensors(filled, std::move(tensors));
    Result values = std::apply(forward, filled);
    std::vector<Tensor> outputs = tensors_of(values);
    if (const auto target = kept.lock()) target->emplace(std::move(values));
    return outputs;
  };
  std::vector<Tensor> outputs = module.call_wrapper()->run(module, function, std::move(inputs));
  replace_tensors(**result, std::move(outputs));
  return std::move(**result);
}

// Runs `forward(arguments...)` with `module`'s hooks around it.
template <class Forward, class... Arguments>
auto call(Module& module, Forward&& forward, Arguments&&... arguments) {
  const Frame frame(module);
  try {
    if (module.call_hooks().empty() && !module.call_wrapper()) return forward(std::forward<Arguments>(arguments)...);
    // Hooks may replace arguments, so they work on copies (a tensor's copy is a handle).
    std::tuple<std::decay_t<Arguments>...> copies(std::forward<Arguments>(arguments)...);
    TensorRefs refs;
    collect(refs, copies);
    for (const auto& hook : module.call_hooks()) hook->before(module, refs);
    auto results = module.call_wrapper() ? call_wrapped(module, forward, copies) : std::apply(forward, copies);
    refs.clear();
    collect(refs, results);
    for (auto hook = module.call_hooks().rbegin(); hook != module.call_hooks().rend(); ++hook) (*hook)->after(module, refs);
    return results;
  } catch (...) {
    rethrow_with_path();
  }
}

}  // namespace call_path

// The holder of an oumi::Module: as torch::nn::ModuleHolder, but operator() goes through the call path.
template <class Impl>
class ModuleHolder : public torch::nn::ModuleHolder<Impl> {
 public:
  using torch::nn::ModuleHolder<Impl>::ModuleHolder;

  template <class... Arguments>
  auto operator()(Arguments&&... arguments) const {
    Impl& impl = *this->impl_;
    return call_path::call(
        impl, [&impl](auto&&... values) { return impl.forward(std::forward<decltype(values)>(values)...); },
        std::forward<Arguments>(arguments)...);
  }
};

// Defines the holder `Name` of `NameImpl`, as TORCH_MODULE does.
#define OUMI_MODULE(Name)                                 \
  class Name : public ::oumi::ModuleHolder<Name##Impl> {  \
   public:                                                \
    using ::oumi::ModuleHolder<Name##Impl>::ModuleHolder; \
    using Impl [[maybe_unused]] = Name##Impl;             \
  }

}  // namespace oumi
