#include "oumi/models/summary.h"

#include <gmock/gmock.h>

#include "oumi/models/simple_model/simple_model.h"

namespace oumi {
namespace {

TEST(Summary, CountsParametersByModule) {
  const auto model = make_model<SimpleModel>();
  EXPECT_EQ(model_summary(*model),
            "SimpleModel, 13,750 parameters\n"
            "  conv1: Conv2d, 520 parameters\n"
            "  conv2: Conv2d, 10,020 parameters\n"
            "  fc1: Linear, 3,210 parameters");
  for (const auto& parameter : model->named_parameters()) {
    if (parameter.key().starts_with("conv1")) parameter.value().set_requires_grad(false);
  }
  EXPECT_THAT(model_summary(*model),
              testing::HasSubstr("SimpleModel, 13,750 parameters, 13,230 trained\n  conv1: Conv2d, 520 parameters, frozen"));
}

}  // namespace
}  // namespace oumi
