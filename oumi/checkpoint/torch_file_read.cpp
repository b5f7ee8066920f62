#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <fstream>
#include <map>
#include <unordered_map>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/pickle_graph.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/checkpoint/torch_types.h"
#include "oumi/checkpoint/zip_reader.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

constexpr int kMaxDepth = 200;
constexpr const char* kDamagedHint = "the file is damaged or incomplete; fetch or save it again";

bool is_any_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* known) { return name == known; });
}

bool is_numpy_reconstruct(const std::string& name) {
  return is_any_of(name, {"numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct"});
}
bool is_numpy_scalar(const std::string& name) {
  return is_any_of(name, {"numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"});
}

// Everything that a file may name. Each is data to us: none is ever loaded or run.
bool is_allowed(const std::string& name) {
  return is_any_of(name, {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
                          "torch._utils._rebuild_parameter", "torch.Size", "torch.device", "_codecs.encode", "builtins.bytes",
                          "__builtin__.bytes", "numpy.ndarray", "numpy.dtype"}) ||
         is_numpy_reconstruct(name) || is_numpy_scalar(name) || name.starts_with("numpy.dtypes.") ||
         torch_dtype_by_name(name) || torch_storage_by_name(name);
}

class GraphReader {
 public:
  GraphReader(const ZipReader& zip, const PickleGraph& graph, std::string origin)
      : zip_(zip), graph_(graph), origin_(std::move(origin)) {}

  c10::IValue value(PickleRef ref, int depth = 0) {
    if (depth > kMaxDepth) fail(cat("expected at most ", kMaxDepth, " levels of containers, got more"));
    // Shared objects are read once: a small file could otherwise unfold without end.
    if (const auto known = values_.find(ref); known != values_.end()) return known->second;
    c10::IValue result = build(ref, depth);
    values_.emplace(ref, result);
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw UserError(origin_, message, kDamagedHint); }

  c10::IValue build(PickleRef ref, int depth) {
    const PickleNode& node = graph_[ref];
    switch (node.kind) {
      case PickleKind::kNone: return {};
      case PickleKind::kBool: return node.integer != 0;
      case PickleKind::kInt: return node.integer;
      case PickleKind::kFloat: return node.number;
      case PickleKind::kString:
      case PickleKind::kBytes: return node.text;
      case PickleKind::kGlobal: return node.text;  // a dtype as a value
      case PickleKind::kTuple: return tuple(node.items, depth);
      case PickleKind::kList: {
        c10::impl::GenericList list(c10::AnyType::get());
        list.reserve(node.items.size());
        for (const PickleRef item : node.items) list.push_back(value(item, depth + 1));
        return list;
      }
      case PickleKind::kDict: {
        c10::impl::GenericDict dict(c10::AnyType::get(), c10::AnyType::get());
        for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
          const PickleKind key = graph_[node.items[i]].kind;
          if (key != PickleKind::kString && key != PickleKind::kInt && key != PickleKind::kBool && key != PickleKind::kFloat) {
            fail("a dict's key: expected a string or number");
          }
          dict.insert_or_assign(value(node.items[i], depth + 1), value(node.items[i + 1], depth + 1));
        }
        return dict;
      }
      case PickleKind::kCall: return call(node, depth);
      case PickleKind::kPersistent: fail("a storage outside a tensor");
    }
    fail("an unknown value");
  }

  c10::IValue tuple(const std::vector<PickleRef>& items, int depth) {
    std::vector<c10::IValue> elements;
    elements.reserve(items.size());
    for (const PickleRef item : items) elements.push_back(value(item, depth + 1));
    return c10::ivalue::Tuple::create(std::move(elements));
  }

  c10::IValue call(const PickleNode& node, int depth) {
    const std::string& name = node.text;
    if (name == "torch._utils._rebuild_tensor_v2") return tensor(node, std::nullopt);
    if (name == "torch._utils._rebuild_tensor_v3") return tensor(node, argument(node, 6));
    if (name == "torch._utils._rebuild_parameter") {
      argument(node, 0);
      c10::IValue data = value(node.items[0], depth + 1);
      if (!data.isTensor()) fail("a Parameter of what is no tensor");
      return data;
    }
    if (name == "torch.Size") {
      const PickleNode& sizes = argument(node, 0);
      if (sizes.kind != PickleKind::kTuple && sizes.kind != PickleKind::kList) fail("torch.Size: expected a tuple");
      return tuple(sizes.items, depth);
    }
    if (name == "torch.device") {
      const std::string index = node.items.size() > 1 ? cat(":", graph_[node.items[1]].integer) : "";
      return argument(node, 0).text + index;
    }
    if (name == "_codecs.encode" || name.ends_with(".bytes")) return bytes(node);
    if (is_numpy_reconstruct(name)) return numpy_array(node);
    if (is_numpy_scalar(name)) return numpy_scalar(node);
    fail("'" + name + "' is no value");
  }

  const PickleNode& argument(const PickleNode& node, std::size_t index) const {
    if (index >= node.items.size())
      fail(node.text + cat(": expected at least ", index + 1, " arguments, got ", node.items.size()));
    return graph_[node.items[index]];
  }

  std::int64_t integer(const PickleNode& node) const {
    if (node.kind != PickleKind::kInt) fail("expected an integer");
    return node.integer;
  }

  std::vector<std::int64_t> integers(const PickleNode& node) const {
    if (node.kind == PickleKind::kCall && node.text == "torch.Size") return integers(argument(node, 0));
    if (node.kind != PickleKind::kTuple && node.kind != PickleKind::kList) fail("expected a tuple of integers");
    std::vector<std::int64_t> values;
    for (const PickleRef item : node.items) values.push_back(integer(graph_[item]));
    return values;
  }

  // The bytes of data/<key>, read once.
  const c10::Storage& storage(const std::string& key, std::uint64_t expected) {
    if (const auto known = storages_.find(key); known != storages_.end()) return known->second;
    const std::string record = "data/" + key;
    const auto size = zip_.size(record);
    if (!size) fail("record '" + record + "' is missing");
    if (*size < expected) fail("record '" + record + cat("': expected ", expected, " bytes, got ", *size));
    const Tensor bytes = at::empty({static_cast<std::int64_t>(*size)}, at::TensorOptions().dtype(at::kByte));
    zip_.read(record, bytes.mutable_data_ptr(), *size);
    return storages_.emplace(key, bytes.storage()).first->second;
  }

  Tensor tensor(const PickleNode& node, const std::optional<PickleNode>& dtype) {
    const PickleNode& reference = argument(node, 0);
    if (reference.kind != PickleKind::kPersistent) fail("a tensor without a storage");
    const PickleNode& id = graph_[reference.items[0]];
    if (id.kind != PickleKind::kTuple || id.items.size() < 5 || graph_[id.items[0]].text != "storage")
      fail("a storage: expected (storage, type, key, device, size)");
    const auto storage_type = torch_storage_by_name(graph_[id.items[1]].text);
    if (graph_[id.items[1]].kind != PickleKind::kGlobal || !storage_type)
      fail("a storage of unknown type '" + graph_[id.items[1]].text + "'");
    const auto type = dtype ? torch_dtype_by_name(dtype->text) : storage_type;
    if (!type) fail("a tensor of unknown dtype '" + dtype->text + "'");
    const std::string& key = graph_[id.items[2]].text;
    const std::int64_t numel = integer(graph_[id.items[4]]);
    const auto item = static_cast<std::int64_t>(c10::elementSize(*type));
    std::int64_t needed = 0;
    if (numel < 0 || __builtin_mul_overflow(numel, static_cast<std::int64_t>(c10::elementSize(*storage_type)), &needed))
      fail(cat("a storage of ", numel, " elements"));

    const std::int64_t offset = integer(argument(node, 1));
    const std::vector<std::int64_t> sizes = integers(argument(node, 2)), strides = integers(argument(node, 3));
    if (sizes.size() != strides.size() || sizes.size() > 64)
      fail(cat("a tensor of ", sizes.size(), " sizes and ", strides.size(), " strides"));
    // The view must end inside its storage: nothing behind it is ours.
    std::int64_t last = offset, count = 1;
    bool fits = offset >= 0;
    for (std::size_t i = 0; i < sizes.size() && fits; ++i) {
      std::int64_t reach = 0;
      fits = sizes[i] >= 0 && strides[i] >= 0 && !__builtin_mul_overflow(count, sizes[i], &count) &&
             !__builtin_mul_overflow(std::max<std::int64_t>(sizes[i] - 1, 0), strides[i], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    std::int64_t end = 0, bytes = 0;
    fits = fits && !__builtin_mul_overflow(count, item, &bytes) && !__builtin_add_overflow(last, count == 0 ? 0 : 1, &end) &&
           !__builtin_mul_overflow(end, item, &end) && (count == 0 || end <= needed);
    if (!fits)
      fail("a tensor reaches outside its storage '" + key +
           cat("': offset ", offset, ", sizes ", at::IntArrayRef(sizes), ", strides ", at::IntArrayRef(strides),
               ", storage of ", needed, " bytes"));
    const auto options = at::TensorOptions().dtype(*type);
    if (count == 0) return at::empty(sizes, options);
    return at::empty({0}, options).set_(storage(key, static_cast<std::uint64_t>(needed)), offset, sizes, strides);
  }

  // bytes in protocol 2: _codecs.encode('text of the characters 0-255', 'latin1').
  std::string bytes(const PickleNode& node) const {
    if (node.kind == PickleKind::kBytes) return node.text;
    if (node.kind != PickleKind::kCall) fail("expected bytes");
    if (node.items.empty()) return "";
    const std::string& text = argument(node, 0).text;
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto lead = static_cast<unsigned char>(text[i]);
      if (lead < 0x80) {
        result += text[i];
      } else {
        if ((lead != 0xc2 && lead != 0xc3) || i + 1 >= text.size()) fail("bytes: a character above 255");
        result += static_cast<char>(((lead & 3) << 6) | (static_cast<unsigned char>(text[++i]) & 0x3f));
      }
    }
    return result;
  }

  at::ScalarType numpy_dtype(const PickleNode& node) const {
    static const std::map<std::string, at::ScalarType> kTypes = {{"f8", at::kDouble}, {"f4", at::kFloat},  {"f2", at::kHalf},
                                                                 {"i8", at::kLong},   {"i4", at::kInt},    {"i2", at::kShort},
                                                                 {"i1", at::kChar},   {"u1", at::kByte},   {"b1", at::kBool},
                                                                 {"u2", at::kUInt16}, {"u4", at::kUInt32}, {"u8", at::kUInt64}};
    if (node.kind != PickleKind::kCall || node.text != "numpy.dtype") fail("a NumPy dtype: expected numpy.dtype");
    const auto type = kTypes.find(argument(node, 0).text);
    if (type == kTypes.end()) fail("NumPy dtype '" + argument(node, 0).text + "': expected a number");
    if (node.state != kNoPickleRef && graph_[node.state].items.size() > 1 && graph_[graph_[node.state].items[1]].text == ">")
      fail("a big-endian NumPy array");
    return type->second;
  }

  // _reconstruct(ndarray, (0,), b'b') with the state (version, shape, dtype, is_fortran, bytes).
  Tensor numpy_array(const PickleNode& node) const {
    if (node.state == kNoPickleRef || graph_[node.state].items.size() != 5) fail("a NumPy array without its state");
    const std::vector<PickleRef>& state = graph_[node.state].items;
    const std::vector<std::int64_t> shape = integers(graph_[state[1]]);
    const at::ScalarType type = numpy_dtype(graph_[state[2]]);
    if (graph_[state[3]].integer != 0 && shape.size() > 1) fail("a NumPy array in Fortran order");
    const std::string data = bytes(graph_[state[4]]);
    std::int64_t size = static_cast<std::int64_t>(c10::elementSize(type));
    bool fits = shape.size() <= 64;
    for (const std::int64_t extent : shape) fits = fits && extent >= 0 && !__builtin_mul_overflow(size, extent, &size);
    if (!fits || size != static_cast<std::int64_t>(data.size()))
      fail(cat("a NumPy array: shape ", at::IntArrayRef(shape), " does not fit ", data.size(), " bytes"));
    const Tensor result = at::empty(shape, at::TensorOptions().dtype(type));
    if (!data.empty()) std::memcpy(result.mutable_data_ptr(), data.data(), data.size());
    return result;
  }

  c10::IValue numpy_scalar(const PickleNode& node) const {
    const at::ScalarType type = numpy_dtype(argument(node, 0));
    const std::string data = bytes(argument(node, 1));
    if (data.size() != c10::elementSize(type)) fail("a NumPy scalar of the wrong size");
    const Tensor result = at::empty({}, at::TensorOptions().dtype(type));
    std::memcpy(result.mutable_data_ptr(), data.data(), data.size());
    const at::Scalar scalar = result.item();
    if (scalar.isBoolean()) return scalar.toBool();
    if (scalar.isFloatingPoint()) return scalar.toDouble();
    return scalar.toLong();
  }

  const ZipReader& zip_;
  const PickleGraph& graph_;
  std::string origin_;
  std::unordered_map<PickleRef, c10::IValue> values_;
  std::unordered_map<std::string, c10::Storage> storages_;
};

// Says what the file is when it is not the zip of torch >= 1.6.
void check_kind(const fs::path& path) {
  const MappedFile file(path);
  const auto byte = [&](std::size_t i) { return i < file.size() ? std::to_integer<int>(file.data()[i]) : -1; };
  if (byte(0) == 'P' && byte(1) == 'K') return;
  if (file.size() == 0) throw UserError(path.string(), "the file is empty: expected a PyTorch file", kDamagedHint);
  if (byte(0) == 0x80) {
    throw UserError(path.string(),
                    "expected a PyTorch file in zip form, got a bare pickle (torch.save before 1.6, or no PyTorch file)",
                    "load it in Python and save it again with torch.save or safetensors");
  }
  throw UserError(path.string(), "expected a PyTorch file (zip archive), got something else",
                  "a safetensors file needs the extension .safetensors");
}

}  // namespace

c10::IValue read_torch_file(const fs::path& path) {
  check_kind(path);
  const ZipReader zip(path);
  if (zip.size("byteorder") && zip.read_text("byteorder") != "little") {
    throw UserError(path.string(), "expected little-endian tensors, got " + zip.read_text("byteorder").substr(0, 20));
  }
  const std::string program = zip.read_text("data.pkl");
  const PickleGraph graph = parse_pickle(program, path.string(), is_allowed);
  try {
    return GraphReader(zip, graph, path.string()).value(graph.root);
  } catch (const c10::Error& error) {
    throw UserError(path.string(), std::string("cannot be read: ") + error.what_without_backtrace(), kDamagedHint);
  }
}

StateDict load_torch_state_dict(const fs::path& path) {
  c10::IValue value = read_torch_file(path);
  if (!value.isGenericDict()) throw UserError(path.string(), "expected a dict of tensors, got " + value.tagKind());
  for (const char* key : {"state_dict", "model_state_dict", "model"}) {
    const auto dict = value.toGenericDict();
    if (const auto inner = dict.find(key); inner != dict.end() && inner->value().isGenericDict()) {
      value = inner->value();
      break;
    }
  }
  StateDict state;
  for (const auto& entry : value.toGenericDict()) {
    if (!entry.key().isString() || !entry.value().isTensor()) {
      const std::string key = entry.key().isString() ? "'" + entry.key().toStringRef() + "'" : entry.key().tagKind();
      throw UserError(path.string(), "key " + key + ": expected a tensor, got " + entry.value().tagKind(),
                      "the file holds more than a state dict; save the state dict alone");
    }
    state.set(entry.key().toStringRef(), entry.value().toTensor());
  }
  return state;
}

StateDict load_sharded_torch_state_dict(const fs::path& directory) {
  const fs::path index_path = directory / "pytorch_model.bin.index.json";
  const Json index = read_json_file(index_path);
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || weight_map == index.end() || !weight_map->is_object())
    throw UserError(index_path.string(), "expected a dict with the dict weight_map");
  std::map<std::string, StateDict> shards;
  StateDict state;
  for (const auto& [name, file] : weight_map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || shard == ".." || fs::path(shard).filename().string() != shard) {
      throw UserError(index_path.string(), "weight_map." + name + ": expected a file name, got " + file.dump());
    }
    auto found = shards.find(shard);
    if (found == shards.end()) found = shards.emplace(shard, load_torch_state_dict(directory / shard)).first;
    const Tensor* tensor = found->second.find(name);
    if (tensor == nullptr)
      throw UserError((directory / shard).string(), "tensor '" + name + "': the index lists it here, and it is missing");
    state.set(name, *tensor);
  }
  return state;
}

}  // namespace oumi
