// The header of NumPy's .npy arrays (numpy.lib.format, versions 1.0 to 3.0). No torch here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace oumi {

struct NpyHeader {
  char byte_order = '|';       // '<', '>' or '|' (no order)
  char kind = 'f';             // NumPy's dtype.kind: b, i, u, f, U, S, c, ...
  std::int64_t item_size = 0;  // bytes of an element (of a U element: 4 times its characters)
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;

  std::int64_t elements() const;
};

// Reads the header at the start of `bytes` and checks that the data behind it has the size that it says. Throws UserError
// naming `origin`: wrong magic number or version, object arrays, structured dtypes, size mismatch.
NpyHeader parse_npy_header(std::string_view bytes, const std::string& origin);

// The strings of a U or S array, trailing zeros cut, U as UTF-8.
std::vector<std::string> npy_strings(const NpyHeader& header, std::string_view bytes, const std::string& origin);

}  // namespace oumi
