#include "oumi/data/formats/npy.h"

#include <cctype>
#include <cstring>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// The text after `'key':` in the header's dict, up to where its value ends.
std::string_view dict_value(std::string_view dict, std::string_view key, const std::string& origin) {
  const std::string quoted = "'" + std::string(key) + "'";
  const auto at = dict.find(quoted);
  const auto colon = at == std::string_view::npos ? at : dict.find(':', at + quoted.size());
  if (colon == std::string_view::npos)
    throw UserError(origin, "not a .npy array: its header has no '" + std::string(key) + "'");
  std::string_view value = dict.substr(colon + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  return value;
}

std::vector<std::int64_t> parse_shape(std::string_view text, const std::string& origin) {
  const auto close = text.find(')');
  if (text.empty() || text.front() != '(' || close == std::string_view::npos)
    throw UserError(origin, "not a .npy array: cannot read its shape");
  std::vector<std::int64_t> shape;
  for (const std::string& part : split(text.substr(1, close - 1), ',')) {
    const std::string digits = trim(part);
    if (digits.empty()) continue;
    std::int64_t extent = 0;
    for (const char c : digits) {
      if (!std::isdigit(static_cast<unsigned char>(c)) || extent > (std::numeric_limits<std::int64_t>::max() - 9) / 10) {
        throw UserError(origin, "not a .npy array: expected numbers in its shape, got '" + digits + "'");
      }
      extent = extent * 10 + (c - '0');
    }
    shape.push_back(extent);
  }
  return shape;
}

void append_utf8(std::string& text, std::uint32_t code, const std::string& origin) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x10000) {
    text += {static_cast<char>(0xE0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3F)),
             static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x110000) {
    text += {static_cast<char>(0xF0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 0x3F)),
             static_cast<char>(0x80 | ((code >> 6) & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
  } else {
    throw UserError(origin, cat("expected text, got the character code ", code));
  }
}

}  // namespace

std::int64_t NpyHeader::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

NpyHeader parse_npy_header(std::string_view bytes, const std::string& origin) {
  constexpr std::string_view kMagic("\x93NUMPY", 6);
  if (bytes.size() < 10 || bytes.substr(0, 6) != kMagic)
    throw UserError(origin, "not a .npy array: expected the magic number \\x93NUMPY");
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  const std::size_t version = byte(6), prefix = version == 1 ? 10 : 12;
  if (version < 1 || version > 3) throw UserError(origin, cat("expected .npy version 1 to 3, got ", version));
  if (bytes.size() < prefix) throw UserError(origin, "truncated in its header");
  const std::size_t length = version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (bytes.size() - prefix < length) throw UserError(origin, "truncated in its header");
  const std::string_view dict = bytes.substr(prefix, length);

  NpyHeader header;
  header.data_offset = prefix + length;
  const std::string_view descr = dict_value(dict, "descr", origin);
  const auto end = descr.size() < 2 || descr.front() != '\'' ? std::string_view::npos : descr.find('\'', 1);
  if (end == std::string_view::npos || end < 3)
    throw UserError(origin, "structured arrays are not supported", "save one array per field");
  header.byte_order = descr[1];
  header.kind = descr[2];
  if (header.kind == 'O')
    throw UserError(origin, "holds pickled Python objects, which are not loaded",
                    "save numbers or strings (dtype other than object)");
  for (std::size_t i = 3; i < end; ++i) {
    if (!std::isdigit(static_cast<unsigned char>(descr[i])) || header.item_size > 100000000) {
      throw UserError(origin, "dtype " + std::string(descr.substr(0, end + 1)) + " is not supported",
                      "convert it to numbers or strings");
    }
    header.item_size = header.item_size * 10 + (descr[i] - '0');
  }
  if (header.kind == 'U') header.item_size *= 4;
  header.fortran_order = dict_value(dict, "fortran_order", origin).substr(0, 4) == "True";
  header.shape = parse_shape(dict_value(dict, "shape", origin), origin);

  __extension__ unsigned __int128 expected = static_cast<std::uint64_t>(header.item_size);
  const std::size_t got = bytes.size() - header.data_offset;
  bool is_empty = header.item_size == 0, too_big = false;
  for (const std::int64_t extent : header.shape) {
    is_empty = is_empty || extent == 0;
    expected *= static_cast<std::uint64_t>(extent);
    too_big = too_big || expected > got;
    if (too_big) expected = std::numeric_limits<std::uint64_t>::max();
  }
  if (is_empty) expected = 0;
  if (expected != got) {
    std::vector<std::string> extents;
    for (const std::int64_t extent : header.shape) extents.push_back(cat(extent));
    throw UserError(origin, cat("expected elements of ", header.item_size, " bytes in shape (", join(extents, ", "), "), got ",
                                got, " bytes of data"));
  }
  return header;
}

std::vector<std::string> npy_strings(const NpyHeader& header, std::string_view bytes, const std::string& origin) {
  if (header.kind != 'U' && header.kind != 'S') throw UserError(origin, cat("expected strings, got dtype kind ", header.kind));
  if (header.kind == 'U' && header.byte_order == '>')
    throw UserError(origin, "big-endian strings are not supported", "save them with the native byte order");
  std::vector<std::string> texts;
  const std::int64_t count = header.elements();
  const char* item = bytes.data() + header.data_offset;
  for (std::int64_t i = 0; i < count; ++i, item += header.item_size) {
    std::string text;
    if (header.kind == 'S') {
      text.assign(item, strnlen(item, static_cast<std::size_t>(header.item_size)));
    } else {
      for (std::int64_t at = 0; at < header.item_size; at += 4) {
        std::uint32_t code;
        std::memcpy(&code, item + at, 4);
        if (code == 0) break;
        append_utf8(text, code, origin);
      }
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace oumi
