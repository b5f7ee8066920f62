#include "oumi/checkpoint/rng_state.h"

#include <ATen/ATen.h>

#include "oumi/base/json.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/test_support.h"

namespace oumi {
namespace {

using testing::HasSubstr;
using testing_support::error_of;
using testing_support::golden;

TEST(RngState, EqualsPyTorchsByteForByte) {
  at::manual_seed(1234);
  at::rand({3});
  const Tensor expected = load_safetensors(golden("rng_state.safetensors")).at("cpu");
  EXPECT_TRUE(at::equal(cpu_rng_state(), expected));
}

TEST(RngState, RestoresPyTorchs) {
  restore_cpu_rng_state(load_safetensors(golden("rng_state.safetensors")).at("cpu"));
  const Json values = read_json_file(golden("values.json"));
  const Tensor drawn = at::rand({4}, at::kDouble);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(drawn[i].item<double>(), values["rand"][static_cast<std::size_t>(i)].get<double>());
}

TEST(RngState, ContinuesExactly) {
  at::manual_seed(5);
  at::randn({7});  // leaves a cached half of a pair of normals
  const StateDict state = capture_rng_state();
  const Tensor first = at::randn({9});
  restore_rng_state(state);
  EXPECT_TRUE(at::equal(at::randn({9}), first));
}

TEST(RngState, RefusesOtherTensors) {
  EXPECT_THAT(error_of<UserError>([] { restore_cpu_rng_state(Tensor()); }),
              HasSubstr("expected a one-dimensional uint8 tensor, got none"));
  EXPECT_THAT(error_of<UserError>([] { restore_cpu_rng_state(at::zeros({3})); }), HasSubstr("uint8 tensor, got Float [3]"));
  EXPECT_THAT(error_of<UserError>([] { restore_cpu_rng_state(at::zeros({3}, at::kByte)); }),
              HasSubstr("random generator 'cpu': expected a saved state, got 3 bytes that are none"));
  EXPECT_THAT(error_of<UserError>([] { restore_rng_state({}); }), HasSubstr("expected the entry 'cpu'"));
}

}  // namespace
}  // namespace oumi
