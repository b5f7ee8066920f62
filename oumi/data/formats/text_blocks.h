// CSV and JSONL in blocks that end where a record ends. A block's unit is its offset in the file, so seeking is O(1).
#pragma once

#include "oumi/data/formats/tabular_reader.h"

namespace oumi {

std::unique_ptr<TabularReader> open_text(const std::filesystem::path& path, TabularFormat format,
                                         const TabularReadOptions& options);

// Bytes of `text` up to and including its last complete record; 0 when no record ends in it. A newline inside quotes ends
// no CSV record.
std::size_t complete_records(std::string_view text, TabularFormat format);

}  // namespace oumi
