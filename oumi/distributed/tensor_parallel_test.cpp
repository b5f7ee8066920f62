// Splits of parameters and the grid of ranks; what goes through the layers is tested with them (nn, models).
#include "oumi/distributed/tensor_parallel.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>

#include "oumi/distributed/rank_mesh.h"
#include "oumi/distributed/testing.h"

namespace oumi {
namespace {

using testing::kQuick;
using testing::run_ranks;

TEST(TensorSplit, SlicesJoinToTheWhole) {
  const Tensor whole = at::arange(11 * 14).view({11, 14});
  const TensorSplit cases[] = {
      {.dim = 0, .pieces = {11}}, {.dim = 1, .pieces = {14}}, {.dim = 1, .pieces = {8, 4, 2}}, {.dim = 0, .pieces = {4, 7}}};
  for (const TensorSplit& split : cases) {
    for (const std::int64_t ranks : {1, 2, 3}) {
      std::vector<Tensor> parts;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        parts.push_back(split.slice(whole, rank, ranks));
        EXPECT_EQ(parts.back().size(split.dim), split.local_size(rank, ranks));
        EXPECT_EQ(split.whole_shape(parts.back().sizes()), whole.sizes().vec());
      }
      EXPECT_TRUE(at::equal(split.join(parts), whole)) << split.to_json() << " over " << ranks;
    }
    EXPECT_EQ(TensorSplit::from_json(split.to_json()).pieces, split.pieces);
  }
  // {q, k, v}: a rank has its half of each.
  const Tensor own = TensorSplit{.dim = 0, .pieces = {8, 4, 2}}.slice(at::arange(14), 1, 2);
  EXPECT_THAT(std::vector<std::int64_t>(own.const_data_ptr<std::int64_t>(), own.const_data_ptr<std::int64_t>() + own.numel()),
              ::testing::ElementsAre(4, 5, 6, 7, 10, 11, 13));
}

TEST(RankMesh, PutsTensorRanksSideBySide) {
  const auto errors = run_ranks(4, kQuick, [](std::shared_ptr<ProcessGroup> world) {
    const RankMesh mesh = make_rank_mesh(world, 2);
    EXPECT_EQ(mesh.tensor->rank(), world->rank() % 2);
    EXPECT_EQ(mesh.data->rank(), world->rank() / 2);
    const auto sum_over = [&](ProcessGroup& group) {
      std::vector<double> value{static_cast<double>(world->rank())};
      group.sum(value, "a test");
      return value[0];
    };
    EXPECT_EQ(sum_over(*mesh.tensor), world->rank() < 2 ? 1 : 5);
    EXPECT_EQ(sum_over(*mesh.data), world->rank() % 2 == 0 ? 2 : 4);
    EXPECT_EQ(mesh.writes_model(), world->rank() < 2);
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

TEST(RankMesh, RefusesASizeThatDoesNotDivide) {
  const auto errors = run_ranks(3, kQuick, [](std::shared_ptr<ProcessGroup> world) { make_rank_mesh(world, 2); });
  EXPECT_THAT(errors, ::testing::Each(::testing::HasSubstr("expected a divisor of the number of ranks (3), got 2")));
}

TEST(TensorParallel, GathersPartsOfUnequalSize) {
  const auto errors = run_ranks(2, kQuick, [](std::shared_ptr<ProcessGroup> group) {
    const TensorParallelPtr parallel = TensorParallel::create(group);
    const Tensor whole = at::arange(5 * 3).view({5, 3});
    const TensorSplit split{.dim = 0, .pieces = {5}};
    EXPECT_TRUE(at::equal(parallel->gather(split.slice(whole, group->rank(), 2), split), whole));
    const Tensor columns = TensorSplit{.dim = 1, .pieces = {3}}.slice(whole, group->rank(), 2);
    EXPECT_TRUE(at::equal(parallel->gather_last(columns, 3), whole));
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

}  // namespace
}  // namespace oumi
