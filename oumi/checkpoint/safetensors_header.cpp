#include "oumi/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <unordered_set>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/tensor_hash.h"

namespace oumi {

namespace {

// In the reference library's order of layout, last first.
constexpr std::array<SafetensorsDtype, 22> kDtypes{
    {{"BOOL", 8, 0},    {"F4", 4, 1},      {"F6_E2M3", 6, 2}, {"F6_E3M2", 6, 3},     {"U8", 8, 4},           {"I8", 8, 5},
     {"F8_E5M2", 8, 6}, {"F8_E4M3", 8, 7}, {"F8_E8M0", 8, 8}, {"F8_E4M3FNUZ", 8, 9}, {"F8_E5M2FNUZ", 8, 10}, {"I16", 16, 11},
     {"U16", 16, 12},   {"F16", 16, 13},   {"BF16", 16, 14},  {"I32", 32, 15},       {"U32", 32, 16},        {"F32", 32, 17},
     {"C64", 64, 18},   {"F64", 64, 19},   {"I64", 64, 20},   {"U64", 64, 21}}};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::vector<std::string> parts;
  for (const std::int64_t size : shape) parts.push_back(std::to_string(size));
  return "[" + join(parts, ", ") + "]";
}

// A name as it may stand in a message: short, and without control characters.
std::string in_quotes(const std::string& name) {
  std::string text = "'";
  for (const char c : name.substr(0, 200)) text += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return text + (name.size() > 200 ? "...'" : "'");
}

constexpr const char* kDamagedHint = "the file is damaged or incomplete; fetch or save it again";

// Reads the header event by event: nothing is built for values that have no place in it, so a hostile header costs no more
// memory than a good one of its length.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(SafetensorsHeader& header, const std::string& origin) : header_(header), origin_(origin) {}

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a bool"); }
  bool number_integer(number_integer_t value) override {
    return state_ == State::kShape || state_ == State::kOffsets ? refuse_number(std::to_string(value)) : scalar("a number");
  }
  bool number_float(number_float_t, const string_t& text) override {
    return state_ == State::kShape || state_ == State::kOffsets ? refuse_number(text) : scalar("a number");
  }
  bool binary(binary_t&) override { return scalar("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return refuse_number(std::to_string(value));
      if (entry_.shape.size() >= 64) fail(where() + ": expected at most 64 dimensions, got more");
      entry_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      if (offsets_ == 0) entry_.begin = value;
      if (offsets_ == 1) entry_.end = value;
      if (++offsets_ > 2) fail(where() + ": expected 2 data_offsets, got more");
      return true;
    }
    return scalar("a number");
  }

  bool string(string_t& text) override {
    if (state_ == State::kMetadata) {
      if (!header_.metadata.emplace(key_, text).second) fail("metadata key " + in_quotes(key_) + ": expected once, got twice");
      return true;
    }
    if (state_ == State::kTensor && key_ == "dtype") {
      entry_.dtype = find_safetensors_dtype(text);
      if (entry_.dtype == nullptr) fail(where() + ": expected a dtype of the format (F32, BF16, ...), got " + in_quotes(text));
      return true;
    }
    return scalar("a string");
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) {
      state_ = State::kRoot;
    } else if (state_ == State::kRoot && key_ == "__metadata__") {
      if (seen_metadata_) fail("__metadata__: expected once, got twice");
      seen_metadata_ = true;
      state_ = State::kMetadata;
    } else if (state_ == State::kRoot) {
      state_ = State::kTensor;
      entry_ = {};
      entry_.name = key_;
      has_shape_ = false;
      offsets_ = 0;
      if (!names_.insert(key_).second) fail(where() + ": expected once, got twice");
    } else {
      nest("a dict");
    }
    return true;
  }

  bool end_object() override {
    if (depth_ > 0) return --depth_, true;
    if (state_ == State::kTensor) {
      if (entry_.dtype == nullptr) fail(where() + ": dtype is missing");
      if (!has_shape_) fail(where() + ": shape is missing");
      if (offsets_ != 2) fail(where() + cat(": expected 2 data_offsets, got ", offsets_));
      header_.entries.push_back(std::move(entry_));
      entry_ = {};
    }
    state_ = State::kRoot;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kTensor && key_ == "shape") {
      if (has_shape_) fail(where() + ": expected one shape, got two");
      has_shape_ = true;
      state_ = State::kShape;
    } else if (state_ == State::kTensor && key_ == "data_offsets") {
      if (offsets_ != 0) fail(where() + ": expected one data_offsets, got two");
      state_ = State::kOffsets;
    } else {
      nest("a list");
    }
    return true;
  }

  bool end_array() override {
    if (depth_ > 0) return --depth_, true;
    state_ = State::kTensor;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 0) key_ = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail(cat("header: not valid JSON at byte ", 8 + (position > 0 ? position - 1 : 0), " of the file"));
  }

 private:
  enum class State { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] void fail(const std::string& message) const { throw UserError(origin_, message, kDamagedHint); }
  std::string where() const { return "tensor " + in_quotes(entry_.name); }

  bool refuse_number(const std::string& text) const {
    fail(where() + ": expected non-negative integers below 2^63 in " + (state_ == State::kShape ? "shape" : "data_offsets") +
         ", got " + text);
  }

  // A value that is not one of the numbers and strings above: of no meaning inside keys we do not know, an error elsewhere.
  bool scalar(const char* got) const {
    if (depth_ > 0) return true;
    switch (state_) {
      case State::kStart: fail(cat("header: expected a dict, got ", got));
      case State::kRoot: fail("tensor " + in_quotes(key_) + ": expected a dict, got " + got);
      case State::kMetadata: fail("metadata key " + in_quotes(key_) + ": expected a string, got " + got);
      case State::kShape:
      case State::kOffsets: fail(where() + ": expected integers, got " + got);
      case State::kTensor:
        if (key_ == "dtype" || key_ == "shape" || key_ == "data_offsets") fail(where() + ": key " + key_ + ": got " + got);
    }
    return true;
  }

  void nest(const char* got) {
    scalar(got);
    if (++depth_ > 16) fail("header: expected a flat dict, got more than 16 levels");
  }

  SafetensorsHeader& header_;
  const std::string& origin_;
  State state_ = State::kStart;
  int depth_ = 0;  // inside values of unknown keys
  std::string key_;
  SafetensorsEntry entry_;
  bool has_shape_ = false, seen_metadata_ = false;
  int offsets_ = 0;
  std::unordered_set<std::string> names_;
};

void check_layout(SafetensorsHeader& header, std::uint64_t data_size, const std::string& origin) {
  const auto fail = [&](const std::string& message) { throw UserError(origin, message, kDamagedHint); };
  std::stable_sort(header.entries.begin(), header.entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t position = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    const std::string where = "tensor " + in_quotes(entry.name);
    const std::int64_t size = safetensors_byte_size(*entry.dtype, entry.shape);
    if (size < 0) fail(where + ": " + std::string(entry.dtype->name) + " " + shape_text(entry.shape) + " is no possible size");
    if (entry.begin != position) {
      fail(where + ": data_offsets " + (entry.begin < position ? "overlap the tensor before" : "leave a hole") +
           ": expected to begin at " + std::to_string(position) + ", got " + std::to_string(entry.begin));
    }
    if (entry.end < entry.begin || entry.end - entry.begin != static_cast<std::uint64_t>(size)) {
      fail(where + ": " + std::string(entry.dtype->name) + " " + shape_text(entry.shape) +
           cat(": expected ", size, " bytes, got data_offsets [", entry.begin, ", ", entry.end, "]"));
    }
    if (entry.end > data_size)
      fail(where + cat(": the file is cut short: expected ", entry.end, " bytes of tensors, got ", data_size));
    position = entry.end;
  }
  if (position != data_size)
    fail(cat("the tensors do not fill the file: expected ", position, " bytes of tensors, got ", data_size));
}

// Empty unless the header is as we write it.
std::vector<std::string> read_hashes(const SafetensorsHeader& header, std::string_view text) {
  const auto found = header.metadata.find(kTensorHashesKey);
  if (found == header.metadata.end() || found->second.size() != header.entries.size() * kTensorHashDigits ||
      !text.ends_with(std::string(kHashedPadding, ' '))) {
    return {};
  }
  std::vector<std::string> hashes;
  for (std::size_t i = 0; i < header.entries.size(); ++i)
    hashes.push_back(found->second.substr(i * kTensorHashDigits, kTensorHashDigits));
  return hashes;
}

std::string json_string(const std::string& text, const std::string& origin) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw UserError(origin, "name " + in_quotes(text) + ": expected UTF-8");
  }
}

}  // namespace

const SafetensorsDtype* find_safetensors_dtype(std::string_view name) {
  const auto found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const SafetensorsDtype& dtype) { return dtype.name == name; });
  return found == kDtypes.end() ? nullptr : &*found;
}

std::int64_t safetensors_byte_size(const SafetensorsDtype& dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bits = dtype.bits;
  for (const std::int64_t size : shape) {
    // A zero anywhere makes the tensor empty, but the reference still refuses a product that overflows before it.
    if (size < 0 || __builtin_mul_overflow(bits, size, &bits)) return -1;
  }
  return bits % 8 == 0 ? bits / 8 : -1;
}

SafetensorsHeader parse_safetensors_header(const std::byte* data, std::uint64_t size, const std::string& origin) {
  const auto fail = [&](const std::string& message) {
    throw UserError(origin, message, "is this a safetensors file, and is it complete?");
  };
  if (size < 8) fail(cat("not a safetensors file: expected at least 8 bytes, got ", size));
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = (length << 8) | std::to_integer<std::uint64_t>(data[i]);
  if (length > kMaxSafetensorsHeader)
    fail(cat("not a safetensors file: expected a header of at most ", kMaxSafetensorsHeader, " bytes, got ", length));
  if (length > size - 8) fail(cat("header is cut short: expected ", length, " bytes, got ", size - 8));
  const char* text = reinterpret_cast<const char*>(data) + 8;
  if (length == 0 || text[0] != '{') fail("not a safetensors file: expected '{' at byte 8");

  SafetensorsHeader header;
  header.data_begin = 8 + length;
  HeaderReader reader(header, origin);
  Json::sax_parse(text, text + length, &reader);
  check_layout(header, size - header.data_begin, origin);
  header.hashes = read_hashes(header, std::string_view(text, length));
  return header;
}

std::string build_safetensors_header(std::vector<SafetensorsEntry>& entries, const SafetensorsMetadata& metadata,
                                     const std::string& origin) {
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.dtype->rank != b.dtype->rank ? a.dtype->rank > b.dtype->rank : a.name < b.name;
  });
  std::string json = "{";
  const auto separate = [&] {
    if (json.size() > 1) json += ',';
  };
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    bool first = true;
    for (const auto& [key, value] : metadata) {
      json += (first ? "" : ",") + json_string(key, origin) + ":" + json_string(value, origin);
      first = false;
    }
    json += '}';
  }
  std::uint64_t position = 0;
  for (SafetensorsEntry& entry : entries) {
    if (entry.name == "__metadata__")
      throw UserError(origin, "tensor name '__metadata__' is reserved by the format", "rename the parameter");
    const std::int64_t size = safetensors_byte_size(*entry.dtype, entry.shape);
    if (size < 0)
      throw UserError(origin, "tensor " + in_quotes(entry.name) + ": " + shape_text(entry.shape) + " is no possible size");
    entry.begin = position;
    entry.end = position += static_cast<std::uint64_t>(size);
    separate();
    json += json_string(entry.name, origin) + ":{\"dtype\":\"" + std::string(entry.dtype->name) + "\",\"shape\":[";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) json += (i == 0 ? "" : ",") + std::to_string(entry.shape[i]);
    json += cat("],\"data_offsets\":[", entry.begin, ",", entry.end, "]}");
  }
  json += '}';
  if (metadata.contains(kTensorHashesKey)) json.append(kHashedPadding, ' ');
  const std::size_t alignment = metadata.contains(kTensorHashesKey) ? 64 : 8;
  json.append((alignment - (json.size() + 8) % alignment) % alignment, ' ');
  if (json.size() > kMaxSafetensorsHeader) {
    throw UserError(origin, cat("header: expected at most ", kMaxSafetensorsHeader, " bytes, got ", json.size()),
                    "save in several files (max_shard_size)");
  }
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>((json.size() >> (8 * i)) & 0xff);
  return bytes + json;
}

}  // namespace oumi
