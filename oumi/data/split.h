// Split expressions as Hugging Face Datasets has them: "train", "train[:90%]", "train[-500:]", "train[10%:20%]+test".
// No torch here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace oumi {

// One term of a split expression: a split's name and, optionally, bounds in samples or percent.
struct SplitSlice {
  std::string name;
  std::optional<std::int64_t> from, to;
  bool percent = false;

  bool is_whole() const noexcept { return !from && !to; }
};

struct IndexRange {
  std::int64_t begin, end;
};

// Throws UserError naming `key` and the term that cannot be read.
std::vector<SplitSlice> parse_split(const std::string& expression, const std::string& key);

// The samples that `slice` stands for out of `size`. Percent bounds are rounded to the nearest sample, halves to the even
// one; negative bounds count from the end; bounds beyond either end are cut.
IndexRange resolve_slice(const SplitSlice& slice, std::int64_t size);

// "train", "validation" or "test" for the names in use for them (val, valid, dev, eval; t10k, testing; training), the name
// in lower case otherwise.
std::string canonical_split(const std::string& name);

}  // namespace oumi
