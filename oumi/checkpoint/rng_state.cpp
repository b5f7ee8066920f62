#include "oumi/checkpoint/rng_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <mutex>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

Tensor get_state(at::Generator generator) {
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_state(at::Generator generator, const std::string& name, const Tensor& state) {
  const std::string where = "random generator '" + name + "': ";
  if (!state.defined() || state.scalar_type() != at::kByte || state.dim() != 1) {
    throw UserError("rng_state",
                    where + "expected a one-dimensional uint8 tensor, got " +
                        (state.defined() ? cat(c10::toString(state.scalar_type()), " ", state.sizes()) : std::string("none")));
  }
  try {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state.cpu().contiguous());
  } catch (const c10::Error& error) {
    throw UserError(
        "rng_state",
        where + "expected a saved state, got " + cat(state.numel(), " bytes that are none: ") + error.what_without_backtrace(),
        "the checkpoint's random state is damaged, or of another version of LibTorch");
  }
}

}  // namespace

Tensor cpu_rng_state() { return get_state(at::detail::getDefaultCPUGenerator()); }

void restore_cpu_rng_state(const Tensor& state) { set_state(at::detail::getDefaultCPUGenerator(), "cpu", state); }

StateDict capture_rng_state() {
  StateDict state{{"cpu", cpu_rng_state()}};
  if (at::hasCUDA()) {
    const auto count = at::detail::getCUDAHooks().deviceCount();
    for (c10::DeviceIndex i = 0; i < count; ++i) {
      if (at::detail::getCUDAHooks().hasPrimaryContext(i)) {
        state.set(cat("cuda:", static_cast<int>(i)),
                  get_state(at::globalContext().defaultGenerator(c10::Device(c10::kCUDA, i))));
      }
    }
  }
  return state;
}

void restore_rng_state(const StateDict& state) {
  const Tensor* cpu = state.find("cpu");
  if (cpu == nullptr) throw UserError("rng_state", "expected the entry 'cpu', got " + join(state.names(), ", "));
  restore_cpu_rng_state(*cpu);
  if (!at::hasCUDA()) return;
  const auto count = at::detail::getCUDAHooks().deviceCount();
  for (c10::DeviceIndex i = 0; i < count; ++i) {
    const std::string name = cat("cuda:", static_cast<int>(i));
    if (const Tensor* device = state.find(name))
      set_state(at::globalContext().defaultGenerator(c10::Device(c10::kCUDA, i)), name, *device);
  }
}

}  // namespace oumi
