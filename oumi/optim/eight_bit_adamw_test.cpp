// Against bitsandbytes' CPU kernels: tests/golden/adapters.py.
#include "oumi/optim/eight_bit_adamw.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/randn.h>

#include <cstring>

#include "oumi/base/files.h"
#include "oumi/optim/optimizer_state.h"
#include "oumi/optim/test_support.h"

namespace oumi {
namespace {

using namespace oumi::testing;
using ::testing::HasSubstr;

TensorDict read_golden() {
  const char* source = std::getenv("OUMI_SOURCE_DIR");
  const std::string bytes =
      read_text_file(cat(source == nullptr ? "." : source, "/tests/golden/adapters/eight_bit_adamw.safetensors"));
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  TensorDict tensors;
  const Json index = Json::parse(bytes.substr(8, header));
  for (const auto& [name, entry] : index.items()) {
    if (name == "__metadata__") continue;
    const auto dtype = entry["dtype"] == "F32" ? at::kFloat : entry["dtype"] == "BF16" ? at::kBFloat16 : at::kByte;
    char* data = const_cast<char*>(bytes.data()) + 8 + header + entry["data_offsets"][0].get<std::size_t>();
    tensors.set(name,
                at::from_blob(data, entry["shape"].get<std::vector<std::int64_t>>(), at::TensorOptions().dtype(dtype)).clone());
  }
  return tensors;
}

const TensorDict& values() {
  static const TensorDict tensors = read_golden();
  return tensors;
}

struct Training {
  explicit Training(at::ScalarType type) : dtype(type) {
    large = values().at("start").to(dtype).clone().requires_grad_(true);
    small = values().at("small").to(dtype).clone().requires_grad_(true);
    groups = {{"all", {{"large", large}, {"small", small}}, 0.1, {}}};
    optimizer = make_optimizer({.name = "paged_adamw_8bit", .learning_rate = 1e-2, .adam_beta2 = 0.99}, groups);
  }
  void train(std::int64_t begin, std::int64_t end) {
    for (std::int64_t step = begin; step < end; ++step) {
      const Tensor gradient = values().at("gradients")[step].to(at::kFloat);
      large.mutable_grad() = gradient.to(dtype);
      small.mutable_grad() = gradient[0].narrow(0, 0, 9).to(dtype);
      optimizer->step();
    }
  }
  OptimizerState state() const { return optimizer_state(*optimizer, {"large", "small"}); }

  at::ScalarType dtype;
  Tensor large, small;
  std::vector<ParameterGroup> groups;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
};

// Share of elements that differ.
double different(const Tensor& a, const Tensor& b) { return a.ne(b).to(at::kDouble).mean().item<double>(); }

TEST(EightBitAdamW, WeightsCodesAndScalesEqualBitsandbytes) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Training run(dtype);
    run.train(0, 6);
    const std::string name = dtype == at::kFloat ? "float32" : "bfloat16";
    const TensorDict tensors = run.state().tensors;
    // Its CPU kernel finds a value's code by a coarser search than the nearest, so about one code in a hundred is another.
    EXPECT_LT(different(tensors.at("large.state1"), values().at(name + ".state1")), 0.01) << name;
    EXPECT_LT(different(tensors.at("large.state2"), values().at(name + ".state2")), 0.02) << name;
    EXPECT_TRUE(at::allclose(tensors.at("large.absmax1"), values().at(name + ".absmax1"), 1e-5, 0)) << name;
    EXPECT_TRUE(at::allclose(tensors.at("large.absmax2"), values().at(name + ".absmax2"), 1e-5, 0)) << name;
    EXPECT_TRUE(at::allclose(tensors.at("small.state1"), values().at(name + ".small.state1"), 1e-5, 1e-8)) << name;
    EXPECT_TRUE(at::allclose(tensors.at("small.state2"), values().at(name + ".small.state2"), 1e-5, 1e-10)) << name;
    EXPECT_TRUE(at::allclose(run.small, values().at(name + ".small"), dtype == at::kFloat ? 1e-5 : 0.01, 1e-6)) << name;
    const Tensor apart = (run.large - values().at(name + ".parameter")).abs().to(at::kFloat);
    // Another code moves its weight by a part of a step, which is 0.01.
    EXPECT_LT(apart.gt(dtype == at::kFloat ? 1e-5 : 2e-2).to(at::kDouble).mean().item<double>(), 0.05) << name;
    EXPECT_LT(apart.max().item<double>(), 0.02) << name;
  }
}

TEST(EightBitAdamW, ResumeIsBitExact) {
  Training whole(at::kFloat), first(at::kFloat), second(at::kFloat);
  whole.train(0, 6);
  first.train(0, 3);
  const OptimizerState saved = first.state();
  {
    const at::NoGradGuard no_grad;
    second.large.copy_(first.large);
    second.small.copy_(first.small);
  }
  load_optimizer_state(*second.optimizer, {"large", "small"}, {saved.tensors, Json::parse(saved.scalars.dump())});
  second.train(3, 6);
  EXPECT_TRUE(at::equal(second.large, whole.large));
  EXPECT_TRUE(at::equal(second.small, whole.small));
}

TEST(EightBitAdamW, StateTakesAQuarterOfFloatMoments) {
  Training run(at::kFloat);
  run.train(0, 1);
  std::size_t bytes = 0;
  const TensorDict tensors = run.state().tensors;
  for (const char* slot : {"state1", "state2", "absmax1", "absmax2"}) bytes += tensors.at(cat("large.", slot)).nbytes();
  EXPECT_LT(static_cast<double>(bytes), 0.26 * 2 * 4 * 70 * 60);
}

TEST(EightBitAdamW, NamedParametersKeepFloatMoments) {
  const Tensor weight = at::randn({100, 100}).requires_grad_(true);
  weight.mutable_grad() = at::randn({100, 100});
  const auto optimizer = make_optimizer({.name = "adamw_8bit", .full_precision_states = {"embed.weight"}},
                                        {{"all", {{"embed.weight", weight}}, 0.0, {}}});
  optimizer->step();
  EXPECT_EQ(optimizer_state(*optimizer, {"embed.weight"}).tensors.at("embed.weight.state1").scalar_type(), at::kFloat);
}

TEST(EightBitAdamW, TransposedWeightsAreUpdatedInPlace) {
  at::manual_seed(2);
  const Tensor start = at::randn({70, 60}), gradient = at::randn({70, 60});
  const auto run = [&](Layout layout) {
    Tensor weight = laid_out(start, layout).requires_grad_(true);
    weight.mutable_grad() = gradient.clone();
    make_optimizer({.name = "adamw_8bit", .learning_rate = 0.1}, {{"all", {{"w", weight}}, 0.0, {}}})->step();
    return weight.detach().contiguous();
  };
  EXPECT_TRUE(at::equal(run(Layout::kContiguous), run(Layout::kTransposed)));
}

TEST(EightBitAdamW, OtherDtypesAreRefused) {
  const Tensor weight = at::randn({3}, at::kDouble).requires_grad_(true);
  EXPECT_THAT(user_error([&] { make_optimizer({.name = "adamw_8bit"}, {{"all", {{"w", weight}}, 0.0, {}}}); }),
              HasSubstr("need float32 or bfloat16 weights"));
}

}  // namespace
}  // namespace oumi
