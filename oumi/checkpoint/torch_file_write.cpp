#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>

#include <bit>
#include <limits>
#include <unordered_map>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/checkpoint/torch_types.h"
#include "oumi/checkpoint/zip_writer.h"

namespace oumi {

namespace {

constexpr int kMaxDepth = 200;

// Pickle protocol 2, in the words that torch.load(weights_only=True) knows. Nothing is memoised: repeated values are few.
class PickleWriter {
 public:
  explicit PickleWriter(std::string origin) : origin_(std::move(origin)) { text_ = "\x80\x02"; }

  void value(const c10::IValue& value, int depth = 0) {
    if (depth > kMaxDepth)
      throw UserError(origin_, cat("expected at most ", kMaxDepth, " levels of containers, got more"),
                      "does a container hold itself?");
    if (value.isNone())
      op('N');
    else if (value.isBool())
      boolean(value.toBool());
    else if (value.isInt())
      integer(value.toInt());
    else if (value.isDouble())
      number(value.toDouble());
    else if (value.isString())
      string(value.toStringRef());
    else if (value.isTensor())
      tensor(value.toTensor());
    else if (value.isTuple()) {
      op('(');
      for (const auto& item : value.toTupleRef().elements()) this->value(item, depth + 1);
      op('t');
    } else if (value.isList()) {
      op(']');
      op('(');
      for (const c10::IValue& item : value.toListRef()) this->value(item, depth + 1);
      op('e');
    } else if (value.isGenericDict()) {
      op('}');
      op('(');
      for (const auto& item : value.toGenericDict()) {
        this->value(item.key(), depth + 1);
        this->value(item.value(), depth + 1);
      }
      op('u');
    } else {
      throw UserError(origin_, "expected tensors, containers and plain values, got " + value.tagKind(),
                      "convert it before saving");
    }
  }

  std::string finish() {
    op('.');
    return std::move(text_);
  }

  // In the order of their numbers.
  const std::vector<c10::Storage>& storages() const { return storages_; }

 private:
  void op(int code) { text_ += static_cast<char>(code); }
  void little_endian(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) op(static_cast<int>((value >> (8 * i)) & 0xff));
  }
  void boolean(bool value) { op(value ? 0x88 : 0x89); }

  void integer(std::int64_t value) {
    if (value >= 0 && value < 256) {
      op('K');
      little_endian(static_cast<std::uint64_t>(value), 1);
    } else if (value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max()) {
      op('J');
      little_endian(static_cast<std::uint64_t>(value), 4);
    } else {
      op(0x8a);
      op(8);
      little_endian(static_cast<std::uint64_t>(value), 8);
    }
  }

  void number(double value) {
    op('G');
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int i = 7; i >= 0; --i) op(static_cast<int>((bits >> (8 * i)) & 0xff));
  }

  void string(const std::string& value) {
    if (value.size() > 0xffffffff) throw UserError(origin_, "a string of more than 4 GiB cannot be stored");
    op('X');
    little_endian(value.size(), 4);
    text_ += value;
  }

  void global(const std::string& module, const std::string& name) { text_ += "c" + module + "\n" + name + "\n"; }

  void integers(c10::IntArrayRef values) {
    op('(');
    for (const std::int64_t value : values) integer(value);
    op('t');
  }

  void tensor(const Tensor& original) {
    if (!original.defined()) return op('N');
    if (original.layout() != c10::kStrided || original.is_meta() || original.is_quantized()) {
      throw UserError(origin_, "expected dense tensors, got a sparse, quantised or meta one", "convert it before saving");
    }
    const Tensor tensor = original.detach().resolve_conj().resolve_neg();
    const TorchTypeName* type = nullptr;
    for (const auto& known : kTorchTypeNames) {
      if (known.type == tensor.scalar_type()) type = &known;
    }
    if (type == nullptr)
      throw UserError(origin_, std::string("tensors of ") + c10::toString(tensor.scalar_type()) + " cannot be stored");
    const c10::Storage& storage = tensor.storage();
    const auto [place, is_new] = numbers_.try_emplace(storage.unsafeGetStorageImpl(), storages_.size());
    if (is_new) storages_.push_back(storage);

    const bool typed = type->storage != nullptr;
    global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    op('(');
    op('(');
    string("storage");
    typed ? global("torch", type->storage) : global("torch.storage", "UntypedStorage");
    string(std::to_string(place->second));
    string("cpu");
    integer(static_cast<std::int64_t>(storage.nbytes() / (typed ? tensor.element_size() : 1)));
    op('t');
    op('Q');
    integer(tensor.storage_offset());
    integers(tensor.sizes());
    integers(tensor.strides());
    boolean(false);  // requires_grad
    global("collections", "OrderedDict");
    op(')');
    op('R');
    if (!typed) global("torch", type->dtype);
    op('t');
    op('R');
  }

  std::string origin_, text_;
  std::vector<c10::Storage> storages_;
  std::unordered_map<const void*, std::size_t> numbers_;
};

// The storage's bytes in host memory; no copy when they are there already.
Tensor host_bytes(const c10::Storage& storage) {
  const auto size = static_cast<std::int64_t>(storage.nbytes());
  return at::empty({0}, at::TensorOptions().dtype(at::kByte).device(storage.device())).set_(storage, 0, {size}, {1}).cpu();
}

}  // namespace

FileDigest write_torch_file(const std::filesystem::path& path, const c10::IValue& value) {
  PickleWriter pickle(path.string());
  pickle.value(value);
  const std::string program = pickle.finish();

  OutputFile file(path);
  ZipWriter zip(file);
  const auto add_text = [&](const std::string& name, const std::string& text) {
    zip.add("archive/" + name, text.data(), text.size());
  };
  add_text("data.pkl", program);
  add_text("byteorder", "little");
  for (std::size_t i = 0; i < pickle.storages().size(); ++i) {
    const Tensor bytes = host_bytes(pickle.storages()[i]);
    zip.add(cat("archive/data/", i), bytes.const_data_ptr(), static_cast<std::uint64_t>(bytes.numel()));
  }
  add_text("version", "3\n");
  zip.finish();
  return file.commit();
}

}  // namespace oumi
