// Questions about the config tree as a whole: which key names which field, and what a mistaken key may have meant.
#pragma once

#include <functional>
#include <string>

#include "oumi/config/field.h"

namespace oumi {

// The field that a dotted key such as "training.max_steps" or "data.train.datasets[0].split" names; nullptr when there is none.
// Keys below a dict field have no field of their own.
const Field* find_field(const std::string& dotted_key);

// Calls `visit(key, field)` for every field of the tree in declaration order, sections before their fields. Items of a list of
// sections appear as "data.train.datasets[].dataset_name".
void visit_fields(const std::function<void(const std::string& key, const Field& field)>& visit);

// What to say about `name`, which `section` (a dotted key, "" for the whole config) does not have.
std::string unknown_key_hint(const std::string& section, const std::string& name, FieldList fields);

}  // namespace oumi
