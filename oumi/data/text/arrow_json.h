// Rows of an Arrow table as JSON. No torch here.
#pragma once

#include <cstdint>
#include <string>

#include "oumi/base/json.h"

namespace arrow {
class Table;
}

namespace oumi {

// Row `index` as a dict of its columns: text, numbers, bools, lists, structs and nulls; other types become text. A struct's
// null fields are left out, since Arrow gives every struct all the keys that any of them has. Throws UserError naming `origin`.
Json row_as_json(const arrow::Table& table, std::int64_t index, const std::string& origin);

}  // namespace oumi
