#include "oumi/models/init_tape.h"

#include <ATen/core/List.h>
#include <ATen/core/enum_tag.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "oumi/checkpoint/rng_state.h"

namespace oumi {
namespace {

using c10::IValue;
using torch::jit::Stack;

thread_local InitTape* tape_now = nullptr;

constexpr const char* kLost = "a weight's memory is held in a way that can't be followed";

struct DefaultDtype {
  explicit DefaultDtype(caffe2::TypeMeta dtype) : outer(c10::get_default_dtype()) { c10::set_default_dtype(dtype); }
  ~DefaultDtype() { c10::set_default_dtype(outer); }
  DefaultDtype(const DefaultDtype&) = delete;
  DefaultDtype& operator=(const DefaultDtype&) = delete;
  caffe2::TypeMeta outer;
};

// LibTorch's own dispatch starts below this one again.
using Below = c10::impl::ExcludeDispatchKeyGuard;

bool is_plain(const Tensor& tensor) {
  return tensor.layout() == c10::kStrided && !tensor.is_conj() && !tensor.is_neg() && !tensor._is_zerotensor() &&
         tensor.has_storage() && !tensor.is_quantized();
}

// `call` on each tensor of a value, and the value with the results in their places.
template <class Call>
IValue map_tensors(const IValue& value, Call&& call) {
  if (value.isTensor()) return value.toTensor().defined() ? IValue(call(value.toTensor())) : value;
  if (!value.isList()) return value;
  const auto elements = value.toListRef();
  if (std::none_of(elements.begin(), elements.end(), [](const IValue& element) { return element.isTensor(); })) return value;
  c10::impl::GenericList list(value.toList().elementType());
  for (const IValue& element : elements) list.push_back(map_tensors(element, call));
  return list;
}

std::vector<Tensor> tensors_in(c10::ArrayRef<IValue> values) {
  std::vector<Tensor> tensors;
  for (const IValue& value : values) {
    map_tensors(value, [&](const Tensor& tensor) {
      tensors.push_back(tensor);
      return tensor;
    });
  }
  return tensors;
}

Tensor view_of(const c10::Storage& storage, c10::DispatchKey key, c10::ScalarType dtype, c10::IntArrayRef sizes,
               c10::IntArrayRef strides, std::int64_t offset) {
  Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key),
                                                           c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return tensor;
}

c10::Storage memory(std::size_t bytes) { return at::empty({static_cast<std::int64_t>(bytes)}, at::kByte).storage(); }

// Whether what `op` does can be written down at all: PyTorch's own operations, whose schemas tell what they write, on values
// that don't change. Batch normalisation updates its running statistics without saying so.
bool is_recordable(const c10::OperatorHandle& op, c10::ArrayRef<IValue> arguments) {
  if (!std::string_view(op.operator_name().name).starts_with("aten::")) return false;
  const auto& schema = op.schema();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const IValue& value = arguments[i];
    const std::string& name = schema.arguments()[i].name();
    if (name == "running_mean" || value.isGenerator() || value.isStorage() || value.isTuple() || value.isGenericDict() ||
        value.isObject())
      return false;
    if (value.isNone()) continue;
    if ((name == "device" && !value.toDevice().is_cpu()) || (name == "pin_memory" && value.toBool()) ||
        (name == "layout" && value.toLayout() != c10::kStrided))
      return false;
  }
  return true;
}

std::optional<std::size_t> device_argument(const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].name() == "device") return i;
  }
  return std::nullopt;
}

// What looks at no values (Tensor::set_data asks the first).
bool is_about_shapes(const std::string& name) {
  static const std::set<std::string> kNames = {"aten::_has_compatible_shallow_copy_type", "aten::is_same_size"};
  return kNames.contains(name);
}

bool sets_every_element(const std::string& name) {
  static const std::set<std::string> kNames = {"aten::fill_",    "aten::zero_",       "aten::copy_",      "aten::normal_",
                                               "aten::uniform_", "aten::random_",     "aten::bernoulli_", "aten::exponential_",
                                               "aten::cauchy_",  "aten::log_normal_", "aten::geometric_"};
  return kNames.contains(name);
}

}  // namespace

InitTape::Recording::Recording(InitTape& tape) : guard_(c10::DispatchKey::DeferredInit) {
  // Once, and never taken back: without a guard on the key it costs nothing.
  static const auto* const kFallback = [] {
    auto* library = new torch::Library(torch::Library::IMPL, "_", c10::DispatchKey::DeferredInit, __FILE__, __LINE__);
    library->fallback(torch::CppFunction::makeFromBoxedFunction<&InitTape::dispatch>());
    return library;
  }();
  (void)kFallback;
  tape_now = &tape;
}

InitTape::Recording::~Recording() { tape_now = nullptr; }

InitTape::KeepsInputs::KeepsInputs() : tape_(tape_now) {
  if (tape_ != nullptr) tape_->keeps_inputs_ = true;
}

InitTape::KeepsInputs::~KeepsInputs() {
  if (tape_ != nullptr) tape_->keeps_inputs_ = false;
}

void InitTape::dispatch(const c10::OperatorHandle& op, Stack* stack) {
  const Below below(c10::DispatchKey::DeferredInit);
  InitTape* const tape = tape_now;
  if (tape == nullptr || is_about_shapes(op.operator_name().name)) return op.callBoxed(stack);
  if (tape->record(op, stack)) return;
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  for (const Tensor& tensor : tensors_in(arguments)) {
    const std::size_t storage = tape->find(tensor);
    if (storage == kNone) continue;
    tape->see(tensor);
    if (!tape->make(storage, tape->unmade_tensors().at(storage))) throw std::runtime_error(kLost);
  }
  op.callBoxed(stack);  // on handles whose memory is there now
}

std::size_t InitTape::find(const Tensor& tensor) const {
  if (!tensor.has_storage()) return kNone;
  const auto found = unmade_.find(tensor.storage().unsafeGetStorageImpl());
  return found == unmade_.end() ? kNone : found->second;
}

InitTape::Ref InitTape::ref(const Tensor& tensor, std::size_t storage) const {
  return {.storage = storage,
          .sizes = tensor.sizes().vec(),
          .strides = tensor.strides().vec(),
          .offset = tensor.storage_offset(),
          .dtype = tensor.scalar_type()};
}

std::size_t InitTape::add_storage(const c10::Storage& shape) {
  auto impl =
      c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), c10::SymInt(shape.nbytes()),
                                            c10::DataPtr(nullptr, c10::Device(c10::kCPU)), nullptr, /*resizable=*/false);
  impl->release_data_and_set_meta_custom_data_ptr_error_msg_("its constructor reads or writes a weight's memory by itself");
  const std::size_t index = storages_.size();
  unmade_.emplace(impl.get(), index);
  storages_.push_back({.handle = c10::Storage(std::move(impl)), .shape = shape, .bytes = shape.nbytes()});
  return index;
}

// A tensor without memory, of the shape that its twin has.
Tensor InitTape::add(const Tensor& shape, std::size_t storage) {
  Tensor tensor = view_of(storages_[storage].handle, c10::DispatchKey::CPU, shape.scalar_type(), shape.sizes(), shape.strides(),
                          shape.storage_offset());
  see(tensor);
  return tensor;
}

// Writes `op` down and puts results without memory on the stack; false, and the stack as it was, where it has to be done now.
bool InitTape::record(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const std::size_t count = schema.arguments().size();
  const auto arguments = torch::jit::last(*stack, count);
  const std::optional<std::size_t> device = device_argument(schema);
  const std::vector<Tensor> given = tensors_in(arguments);
  const bool has_unmade = std::any_of(given.begin(), given.end(), [&](const Tensor& tensor) { return find(tensor) != kNone; });
  if (!has_unmade && !(device && given.empty())) return false;
  if (!is_recordable(op, arguments)) return false;

  bool writes = false, wants_gradient = false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    const bool written = alias != nullptr && alias->isWrite();
    for (const Tensor& tensor : tensors_in(arguments.slice(i, 1))) {
      if (!is_plain(tensor)) return false;
      if (written && find(tensor) == kNone) return false;
      writes = writes || written;
      wants_gradient = wants_gradient || (at::GradMode::is_enabled() && tensor.requires_grad());
    }
  }
  if (writes && wants_gradient) return false;

  // On twins of the meta device, to learn what comes out.
  std::unordered_map<const c10::StorageImpl*, std::size_t> twins;  // of storages
  std::vector<Tensor> twin_of;
  Stack shapes;
  const at::NoGradGuard no_grad;
  const Tensor rng_state = op.hasTag(at::Tag::nondeterministic_seeded) ? cpu_rng_state() : Tensor();
  try {
    for (const IValue& value : arguments) {
      shapes.push_back(map_tensors(value, [&](const Tensor& tensor) {
        const std::size_t storage = find(tensor);
        Tensor twin;
        if (storage == kNone) {
          twin = at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta));
        } else {
          twin = view_of(storages_[storage].shape, c10::DispatchKey::Meta, tensor.scalar_type(), tensor.sizes(),
                         tensor.strides(), tensor.storage_offset());
        }
        twins.emplace(twin.storage().unsafeGetStorageImpl(), storage);
        if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) twin.unsafeGetTensorImpl()->set_wrapped_number(true);
        twin_of.push_back(twin);
        return twin;
      }));
    }
    if (device && (!has_unmade || !shapes[*device].isNone())) shapes[*device] = IValue(c10::Device(c10::kMeta));
    op.callBoxed(&shapes);
  } catch (const std::exception&) {
    if (rng_state.defined()) restore_cpu_rng_state(rng_state);
    return false;  // no rule for shapes, or an error, which comes again
  }
  if (rng_state.defined()) restore_cpu_rng_state(rng_state);
  for (std::size_t i = 0; i < given.size(); ++i) {
    const Tensor& tensor = given[i];
    const std::size_t storage = find(tensor);
    const auto found = twins.find(twin_of[i].storage().unsafeGetStorageImpl());
    if (found == twins.end() || found->second != storage || twin_of[i].sizes() != tensor.sizes() ||
        twin_of[i].strides() != tensor.strides() || twin_of[i].storage_offset() != tensor.storage_offset())
      return false;  // an operation that changes a tensor's shape in place
  }
  std::size_t new_bytes = 0;
  std::set<const c10::StorageImpl*> new_storages;
  for (const IValue& value : shapes) {
    if (!value.isTensor() && !value.isTensorList()) return false;  // a number: it may come from values
    for (const Tensor& result : tensors_in(value)) {
      if (!is_plain(result) || !result.is_meta()) return false;
      const auto known = twins.find(result.storage().unsafeGetStorageImpl());
      if (known != twins.end() && known->second == kNone) return false;  // a view of a tensor with memory
      if (known == twins.end() && new_storages.insert(result.storage().unsafeGetStorageImpl()).second)
        new_bytes += result.storage().nbytes();
    }
  }
  if (!has_unmade && new_bytes < kSmall) return false;
  if (wants_gradient && !new_storages.empty()) return false;

  static const Tensor kPlace = at::empty({0});
  Operation operation{.op = op, .arguments = {}, .rng_state = rng_state, .default_dtype = c10::get_default_dtype()};
  for (const IValue& value : arguments) {
    operation.arguments.push_back(map_tensors(value, [&](const Tensor& tensor) {
      const std::size_t storage = find(tensor);
      Ref argument = ref(tensor, storage);
      if (storage == kNone) {
        argument.tensor = keeps_inputs_ ? tensor.detach() : tensor.detach().clone();
        if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) argument.tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
      } else {
        see(tensor);
      }
      operation.tensors.push_back(std::move(argument));
      return kPlace;
    }));
  }
  std::set<std::size_t> written;
  for (std::size_t i = 0, next = 0; i < count; ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    for (std::size_t left = tensors_in(arguments.slice(i, 1)).size(); left > 0; --left, ++next) {
      if (alias != nullptr && alias->isWrite()) written.insert(operation.tensors[next].storage);
    }
  }
  if (!given.empty() && sets_every_element(op.operator_name().name)) {
    const Tensor& self = given.front();
    const std::size_t storage = find(self);
    const bool is_read = std::any_of(operation.tensors.begin() + 1, operation.tensors.end(),
                                     [&](const Ref& argument) { return argument.storage == storage; });
    if (!is_read && self.is_non_overlapping_and_dense() && self.nbytes() == storages_[storage].bytes)
      operation.overwrites = storage;
  }
  Stack results;
  for (const IValue& value : shapes) {
    results.push_back(map_tensors(value, [&](const Tensor& result) {
      for (std::size_t i = 0; i < given.size(); ++i) {
        if (result.is_same(twin_of[i])) {
          operation.results.emplace_back();
          return given[i];
        }
      }
      const c10::StorageImpl* impl = result.storage().unsafeGetStorageImpl();
      auto known = twins.find(impl);
      if (known == twins.end()) {
        known = twins.emplace(impl, add_storage(result.storage())).first;
        written.insert(known->second);
      }
      operation.results.push_back(new_storages.contains(impl) ? ref(result, known->second) : Ref());
      Tensor tensor = add(result, known->second);
      if (wants_gradient) without_gradient_.emplace_back(tensor.getIntrusivePtr());
      return tensor;
    }));
  }
  if (!written.empty()) {
    const std::size_t index = operations_.size();
    for (const std::size_t storage : written) storages_[storage].writers.push_back(index);
    operations_.push_back(std::move(operation));
    if (rng_state.defined()) {
      std::set<std::size_t> needed{index};
      collect_inputs(index, needed);
      const bool failed = std::exchange(failed_, true);  // if this throws
      replay(needed);
      failed_ = failed;
    }
  }
  torch::jit::drop(*stack, count);
  stack->insert(stack->end(), results.begin(), results.end());
  return true;
}

// The operations before `before` that decide what is in a storage.
void InitTape::collect(std::size_t storage, std::size_t before, std::set<std::size_t>& operations) const {
  const std::vector<std::size_t>& writers = storages_[storage].writers;
  auto next = std::lower_bound(writers.begin(), writers.end(), before);
  while (next != writers.begin()) {
    const std::size_t operation = *--next;
    if (operations.insert(operation).second) collect_inputs(operation, operations);
    if (operations_[operation].overwrites == storage) return;
  }
}

void InitTape::collect_inputs(std::size_t operation, std::set<std::size_t>& operations) const {
  for (const Ref& argument : operations_[operation].tensors) {
    if (argument.storage != kNone && argument.storage != operations_[operation].overwrites)
      collect(argument.storage, operation, operations);
  }
}

InitTape::Made InitTape::replay(const std::set<std::size_t>& operations) const {
  const at::NoGradGuard no_grad;
  const Below below(c10::DispatchKey::DeferredInit);
  Made made;
  for (const std::size_t operation : operations) replay(operations_[operation], made);
  return made;
}

void InitTape::replay(const Operation& operation, Made& made) const {
  const auto tensor_of = [&](const Ref& part) {
    auto found = made.find(part.storage);
    if (found == made.end()) found = made.emplace(part.storage, memory(storages_[part.storage].bytes)).first;
    return view_of(found->second, c10::DispatchKey::CPU, part.dtype, part.sizes, part.strides, part.offset);
  };
  Stack stack;
  std::size_t next = 0;
  const auto argument = [&](const Tensor&) {
    const Ref& part = operation.tensors[next++];
    return part.storage == kNone ? part.tensor : tensor_of(part);
  };
  for (const IValue& value : operation.arguments) stack.push_back(map_tensors(value, argument));
  const DefaultDtype dtype(operation.default_dtype);
  if (operation.rng_state.defined()) restore_cpu_rng_state(operation.rng_state);
  operation.op.callBoxed(&stack);
  next = 0;
  for (const Tensor& result : tensors_in(stack)) {
    const Ref& part = operation.results.at(next++);
    if (part.storage == kNone) continue;
    const bool as_expected = result.scalar_type() == part.dtype && result.sizes() == part.sizes &&
                             result.strides() == part.strides && result.storage_offset() == part.offset &&
                             result.storage().nbytes() == storages_[part.storage].bytes;
    const bool is_shared = std::any_of(made.begin(), made.end(), [&](const auto& other) {
      return other.second.unsafeGetStorageImpl() == result.storage().unsafeGetStorageImpl();
    });
    if (as_expected && !is_shared && !made.contains(part.storage)) {
      made.emplace(part.storage, result.storage());
    } else {
      tensor_of(part).copy_(result);
    }
  }
}

c10::Storage InitTape::replay_storage(std::size_t storage) const {
  std::set<std::size_t> operations;
  collect(storage, operations_.size(), operations);
  const Tensor rng_now = cpu_rng_state();
  Made made = replay(operations);
  restore_cpu_rng_state(rng_now);
  const auto found = made.find(storage);
  return found == made.end() ? memory(storages_[storage].bytes) : found->second;
}

void InitTape::see(const Tensor& tensor) {
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  if (!seen_.contains(impl)) seen_.emplace(impl, tensor.getIntrusivePtr());
}

std::unordered_map<std::size_t, std::vector<Tensor>> InitTape::unmade_tensors() const {
  std::unordered_map<std::size_t, std::vector<Tensor>> tensors;
  for (const auto& [impl, weak] : seen_) {
    auto alive = weak.lock();
    if (!alive.defined()) continue;
    Tensor tensor(std::move(alive));
    if (const std::size_t storage = find(tensor); storage != kNone) tensors[storage].push_back(std::move(tensor));
  }
  return tensors;
}

namespace {

void set_storage(const Tensor& tensor, const c10::Storage& storage) {
  tensor.unsafeGetTensorImpl()->set_allow_tensor_metadata_change(true);
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
}

}  // namespace

// Gives a storage's `tensors` memory with its values; false when there are others that hold it.
bool InitTape::make(std::size_t storage, const std::vector<Tensor>& tensors) {
  const c10::Storage made = replay_storage(storage);
  for (const Tensor& tensor : tensors) set_storage(tensor, made);
  unmade_.erase(storages_[storage].handle.unsafeGetStorageImpl());
  failed_ = failed_ || storages_[storage].handle.use_count() > 1;
  return !failed_;
}

bool InitTape::make_all() {
  for (const auto& [storage, tensors] : unmade_tensors()) make(storage, tensors);
  for (const auto& [impl, storage] : unmade_) failed_ = failed_ || storages_[storage].handle.use_count() > 1;
  return !failed_;
}

std::vector<bool> InitTape::finish(const std::vector<Tensor>& parameters) {
  std::unordered_map<const c10::TensorImpl*, std::size_t> kept;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    kept.emplace(parameters[i].unsafeGetTensorImpl(), i);
    see(parameters[i]);  // a copy of a handle (Tensor::data) may have become one without an operation
  }
  for (const auto& weak : without_gradient_) {
    if (weak.lock().defined()) throw std::runtime_error("it keeps a view of a weight");
  }
  std::vector<bool> left(parameters.size(), false);
  for (const auto& [storage, tensors] : unmade_tensors()) {
    const auto found = kept.find(tensors.front().unsafeGetTensorImpl());
    if (tensors.size() > 1 || found == kept.end()) {
      make(storage, tensors);
      continue;
    }
    left_.emplace(found->first, ref(tensors.front(), storage));
    left[found->second] = true;
    set_storage(tensors.front(), memory(storages_[storage].bytes));
    unmade_.erase(storages_[storage].handle.unsafeGetStorageImpl());
    failed_ = failed_ || storages_[storage].handle.use_count() > 1;
  }
  if (!make_all()) throw std::runtime_error(kLost);
  return left;
}

Tensor InitTape::value(const Tensor& parameter) const {
  const Ref& part = left_.at(parameter.unsafeGetTensorImpl());
  return view_of(replay_storage(part.storage), c10::DispatchKey::CPU, part.dtype, part.sizes, part.strides, part.offset);
}

}  // namespace oumi
