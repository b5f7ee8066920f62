#include "oumi/models/model_inputs.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/tensors/module.h"

namespace oumi {

const Tensor& first_of(const Batch& batch, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const Tensor* found = batch.find(name)) return *found;
  }
  const std::vector<std::string> wanted(names.begin(), names.end());
  throw UserError(
      call_path::current_path(),
      "the batch lacks its input: expected '" + join(wanted, "' or '") + "', got [" + join(batch.names(), ", ") + "]",
      "name the dataset's field so, e.g. with dataset_kwargs.rename, or adapt forward");
}

std::int64_t positive(const Kwargs& kwargs, const char* name, std::int64_t fallback) {
  const auto value = kwargs.get<std::int64_t>(name, fallback);
  if (value < 1) throw UserError(kwargs.origin() + "." + name, cat("expected at least 1, got ", value));
  return value;
}

}  // namespace oumi
