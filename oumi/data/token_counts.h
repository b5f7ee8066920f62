// What a dataset of text can say of a sample without loading its tokens.
#pragma once

#include <cstdint>

namespace oumi {

struct TokenCounts {
  std::int64_t tokens = 0;
  std::int64_t supervised = 0;                    // labels that aren't ignored
  std::int64_t dropped = 0;                       // tokens cut off at the longest length
  std::int32_t largest_id = -1, smallest_id = 0;  // of the tokens and of the labels that aren't ignored
};

}  // namespace oumi
