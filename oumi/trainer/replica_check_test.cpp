#include "oumi/trainer/replica_check.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>

#include "oumi/distributed/testing.h"

namespace oumi {
namespace {

using testing::kQuick;
using testing::run_ranks;

// One bit of one number, of the lowest weight.
void flip_lowest_bit(const Tensor& tensor, std::int64_t index) {
  reinterpret_cast<std::uint32_t*>(tensor.data_ptr<float>())[index] ^= 1;
}

TEST(ReplicaCheck, NamesTheRankWithAFlippedBit) {
  const auto errors = run_ranks(3, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const NamedParameters parameters{{"conv.weight", at::full({20, 25}, 0.5)}, {"fc.weight", at::full({10, 320}, 0.25)}};
    require_equal_replicas(*group, parameters, 3);
    if (group->rank() == 1) flip_lowest_bit(parameters[1].second, 3199);
    require_equal_replicas(*group, parameters, 4);
  });
  for (const std::string& error : errors) {
    EXPECT_THAT(error, ::testing::StartsWith("error: [rank 1] after step 4: expected the same weights on all ranks, got other "
                                             "values of 1 parameters (fc.weight)"));
  }
}

TEST(ReplicaCheck, AloneThereIsNothingToCompare) {
  ProcessGroup group;
  require_equal_replicas(group, {{"weight", at::full({2}, 1.0)}}, 1);
}

}  // namespace
}  // namespace oumi
