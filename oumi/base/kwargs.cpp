#include "oumi/base/kwargs.h"

#include <algorithm>

namespace oumi {

Kwargs::Kwargs(Json values, std::string origin) : values_(std::move(values)), origin_(std::move(origin)) {
  if (values_.is_null()) values_ = Json::object();
  if (!values_.is_object()) throw UserError(origin_, "expected dict, got " + json_type_name(values_));
}

const Json* Kwargs::find(const std::string& name) const {
  if (std::find(asked_.begin(), asked_.end(), name) == asked_.end()) asked_.push_back(name);
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &*found;
}

void Kwargs::check_all_read() const {
  for (const auto& [name, value] : values_.items()) {
    if (std::find(asked_.begin(), asked_.end(), name) == asked_.end()) {
      throw UserError(origin_ + "." + name, "unknown key",
                      asked_.empty() ? "no keys are taken here" : suggestion(name, asked_));
    }
  }
}

}  // namespace oumi
