// What becomes of fields that nothing here reads, or that count only beside another setting: the part of the support table
// (support.h) that looks at whether a field differs from its default. A field that is neither in it nor in support.cpp is
// honoured, and a test holds the sources to that.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "oumi/config/support.h"

namespace oumi {

struct FieldNote {
  const char* key;  // a field, or a section as "section.*"; data.train stands for the three splits
  SupportKind kind;
  const char* text;
  bool (*applies)(const TrainingConfig&) = nullptr;  // beside differing from the default; null: always
};

std::span<const FieldNote> field_notes();

// The keys of all fields that differ from their defaults, in order: "data.train.datasets[].subset", "training.max_steps".
std::vector<std::string> changed_fields(const TrainingConfig& config);

// True when `note` is about `key`.
bool covers(const FieldNote& note, const std::string& key);

}  // namespace oumi
