// Weights that are made later, and one by one (torchdistx's deferred initialisation, on the dispatch key that LibTorch keeps
// for it). While a tape records, large tensors come into being without memory: their shapes are worked out, and the operations
// on them are written down. Afterwards a parameter's value is made by those operations that it depends on.
//
// Values are those of ordinary construction, bit for bit, and so is the state of the random generator afterwards: an operation
// that draws random numbers is carried out at its turn as well, on memory of its own, which moves the generator on, and its
// state before that is kept. What can't be written down (a value that is asked for, an operation without a rule for shapes, a
// gradient that is wanted) gets its values at once and is done as ever; a look at memory that isn't there throws.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "oumi/tensors/tensor_dict.h"

namespace oumi {

class InitTape {
 public:
  static constexpr std::size_t kSmall = 64 << 10;  // bytes: tensors below this are made as ever

  InitTape() = default;  // end with finish or make_all: tensors without memory don't keep the tape
  InitTape(const InitTape&) = delete;
  InitTape& operator=(const InitTape&) = delete;

  // Tensors that this thread makes go onto the tape. No nesting.
  class Recording {
   public:
    explicit Recording(InitTape& tape);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    c10::impl::IncludeDispatchKeyGuard guard_;
  };

  // Within a recording: what is done on this thread is done as ever.
  class Pause {
   public:
    Pause() : guard_(c10::DispatchKey::DeferredInit) {}

   private:
    c10::impl::ExcludeDispatchKeyGuard guard_;
  };

  // Of the recording on this thread, if there is one: until its end, tensors with memory that operations read are kept by
  // reference. Without it they are copied, since what they hold may change. For the views of a mapped file.
  class KeepsInputs {
   public:
    KeepsInputs();
    ~KeepsInputs();
    KeepsInputs(const KeepsInputs&) = delete;
    KeepsInputs& operator=(const KeepsInputs&) = delete;

   private:
    InitTape* tape_;
  };

  // After recording. Which of `parameters` (each once) have their values on the tape alone; their memory is there now, and
  // nobody has touched it. Every other tensor has its values. Throws where a tensor is held in a way that can't be followed.
  std::vector<bool> finish(const std::vector<Tensor>& parameters);
  // Instead: gives all tensors their values; false where one is held in a way that can't be followed.
  bool make_all();

  // The value of a parameter that finish has left on the tape. Leaves the random generator as it was.
  Tensor value(const Tensor& parameter) const;

  // The fallback of c10::DispatchKey::DeferredInit.
  static void dispatch(const c10::OperatorHandle& op, torch::jit::Stack* stack);

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  // A tensor as a view of a storage of the tape's; kNone: a tensor with memory.
  struct Ref {
    std::size_t storage = kNone;
    Tensor tensor = {};
    std::vector<std::int64_t> sizes = {}, strides = {};
    std::int64_t offset = 0;
    c10::ScalarType dtype = c10::ScalarType::Float;
  };
  struct Operation {
    c10::OperatorHandle op;
    torch::jit::Stack arguments;     // without its tensors:
    std::vector<Ref> tensors = {};   // in the order of the arguments
    std::vector<Ref> results = {};   // in the order of the results; those that are arguments or views of them have no storage
    Tensor rng_state = {};           // before it, when it draws random numbers
    std::size_t overwrites = kNone;  // a storage whose contents before it don't matter
    caffe2::TypeMeta default_dtype = caffe2::TypeMeta::Make<float>();  // as it was when the constructor came to it
  };
  struct Storage {
    c10::Storage handle;  // without memory
    c10::Storage shape;   // its twin on the meta device
    std::size_t bytes = 0;
    std::vector<std::size_t> writers = {};  // operations, ascending
  };
  using Made = std::unordered_map<std::size_t, c10::Storage>;

  bool record(const c10::OperatorHandle& op, torch::jit::Stack* stack);
  std::size_t find(const Tensor& tensor) const;
  Ref ref(const Tensor& tensor, std::size_t storage) const;
  Tensor add(const Tensor& shape, std::size_t storage);
  std::size_t add_storage(const c10::Storage& shape);
  void see(const Tensor& tensor);
  std::unordered_map<std::size_t, std::vector<Tensor>> unmade_tensors() const;
  bool make(std::size_t storage, const std::vector<Tensor>& tensors);
  void collect(std::size_t storage, std::size_t before, std::set<std::size_t>& operations) const;
  void collect_inputs(std::size_t operation, std::set<std::size_t>& operations) const;
  Made replay(const std::set<std::size_t>& operations) const;
  void replay(const Operation& operation, Made& made) const;
  c10::Storage replay_storage(std::size_t storage) const;

  std::vector<Operation> operations_;
  std::vector<Storage> storages_;
  std::unordered_map<const c10::StorageImpl*, std::size_t> unmade_;                            // storages without memory
  std::unordered_map<const c10::TensorImpl*, Ref> left_;                                       // of finish
  std::unordered_map<const c10::TensorImpl*, c10::weak_intrusive_ptr<c10::TensorImpl>> seen_;  // every handle of one of these
  std::vector<c10::weak_intrusive_ptr<c10::TensorImpl>> without_gradient_;  // views that would be part of a graph
  bool keeps_inputs_ = false, failed_ = false;
};

}  // namespace oumi
