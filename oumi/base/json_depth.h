// JSON is parsed into a tree whose copies, comparisons and destruction recurse: text that nests too deeply would overflow the
// stack.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace oumi {

inline constexpr std::size_t kMaxJsonDepth = 500;

// The byte at which `text` nests more than kMaxJsonDepth lists and dicts into each other; nothing where it never does. One
// pass.
std::optional<std::size_t> too_deep_at(std::string_view text);

}  // namespace oumi
