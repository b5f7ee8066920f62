// Small text helpers for messages. No formatting library here: torch's headers carry a copy of fmt that wins over the
// system's in any file that includes torch, so code seen from there keeps to iostreams.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace oumi {

// Joins its arguments as operator<< prints them: cat("step ", 3) == "step 3".
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

std::string to_lower(std::string_view text);
std::string trim(std::string_view text);
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);

// The candidate nearest to `word` by edit distance, ignoring case; empty when none is near enough to be a likely slip.
std::string nearest_match(std::string_view word, const std::vector<std::string>& candidates);

// "did you mean 'x'?" for nearest_match, or "known: a, b, c" when nothing is near.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

// 1536 -> "1.5 KiB".
std::string format_bytes(std::uint64_t bytes);

// 3725 -> "1:02:05"; 65 -> "01:05".
std::string format_duration(double seconds);

}  // namespace oumi
