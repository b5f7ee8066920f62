#include "oumi/config/validate.h"

#include "oumi/base/error.h"

namespace oumi {

void validate(const TrainingConfig& config) {
  if (config.model.model_name.empty()) throw UserError("model.model_name", "is required and missing", "set model.model_name");
}

}  // namespace oumi
