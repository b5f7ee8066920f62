#include "oumi/data/split.h"

#include <algorithm>
#include <cmath>
#include <regex>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

std::optional<std::int64_t> read_bound(std::string digits, const std::string& key, const std::string& term) {
  if (digits.empty()) return std::nullopt;
  std::erase(digits, '_');
  try {
    return std::stoll(digits);
  } catch (const std::exception&) {
    throw UserError(key, "split bound out of range in '" + term + "'");
  }
}

SplitSlice parse_term(const std::string& term, const std::string& key) {
  static const std::regex pattern(R"(([A-Za-z0-9_][A-Za-z0-9_.-]*)(?:\[(?:(-?[0-9_]+)(%)?)?:(?:(-?[0-9_]+)(%)?)?\])?)");
  std::smatch match;
  if (!std::regex_match(term, match, pattern)) {
    throw UserError(key, "cannot read split '" + term + "': expected name, name[from:to] or name[from%:to%], joined by +",
                    "examples: train, train[:90%], train[-500:], train+test");
  }
  SplitSlice slice;
  slice.name = match[1];
  slice.from = read_bound(match[2], key, term);
  slice.to = read_bound(match[4], key, term);
  const bool from_percent = match[3].matched, to_percent = match[5].matched;
  if (slice.from && slice.to && from_percent != to_percent) {
    throw UserError(key, "split '" + term + "' mixes samples and percent", "give both bounds in one unit");
  }
  slice.percent = from_percent || to_percent;
  for (const auto& bound : {slice.from, slice.to}) {
    if (slice.percent && bound && std::abs(*bound) > 100) {
      throw UserError(key, cat("split '", term, "': expected percent in [-100, 100], got ", *bound));
    }
  }
  return slice;
}

}  // namespace

std::vector<SplitSlice> parse_split(const std::string& expression, const std::string& key) {
  std::vector<SplitSlice> slices;
  for (const std::string& term : split(expression, '+')) slices.push_back(parse_term(trim(term), key));
  return slices;
}

IndexRange resolve_slice(const SplitSlice& slice, std::int64_t size) {
  const auto absolute = [&](const std::optional<std::int64_t>& bound, std::int64_t fallback) {
    if (!bound) return fallback;
    std::int64_t value = *bound;
    if (slice.percent)
      value = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(value) * static_cast<double>(size) / 100.0));
    if (value < 0) value = std::max<std::int64_t>(size + value, 0);
    return std::min(value, size);
  };
  const std::int64_t begin = absolute(slice.from, 0);
  return {begin, std::max(begin, absolute(slice.to, size))};
}

std::string canonical_split(const std::string& name) {
  const std::string lower = to_lower(name);
  if (lower == "train" || lower == "training") return "train";
  if (lower == "validation" || lower == "valid" || lower == "val" || lower == "dev" || lower == "eval") return "validation";
  if (lower == "test" || lower == "testing" || lower == "t10k") return "test";
  return lower;
}

}  // namespace oumi
