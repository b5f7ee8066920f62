// B batch, T query, S key, H heads, K kv_heads, D head_dim.
#include "oumi/kernels/attention.h"

#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/kernels/testing/gradcheck.h"

namespace oumi::kernels {
namespace {

using oumi::testing::expect_close;
using oumi::testing::tolerance;

// The definition, pair by pair.
bool sees(const AttentionOptions& options, std::int64_t batch, std::int64_t query, std::int64_t key) {
  const std::int64_t position = options.key_offset + query;
  if (options.causal && key > position) return false;
  if (options.sliding_window > 0 && key <= position - options.sliding_window) return false;
  if (!options.segment_ids.defined()) return true;
  const auto segment = options.segment_ids.accessor<int, 2>();
  return segment[batch][position] >= 0 && segment[batch][position] == segment[batch][key];
}

Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  const std::int64_t B = q.size(0), T = q.size(1), H = q.size(2), D = q.size(3), S = k.size(1), group = H / k.size(2);
  const Tensor qd = q.detach().to(at::kDouble).contiguous(), kd = k.detach().to(at::kDouble).contiguous(),
               vd = v.detach().to(at::kDouble).contiguous();
  const auto Q = qd.accessor<double, 4>(), K = kd.accessor<double, 4>(), V = vd.accessor<double, 4>();
  Tensor out = at::zeros({B, T, H, D}, at::kDouble);
  auto O = out.accessor<double, 4>();
  std::vector<double> weight(static_cast<std::size_t>(S));
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t h = 0; h < H; ++h) {
        double total = 0;
        for (std::int64_t s = 0; s < S; ++s) {
          double score = 0;
          for (std::int64_t d = 0; d < D; ++d) score += Q[b][t][h][d] * K[b][s][h / group][d];
          score *= options.scale;
          if (options.soft_cap > 0) score = options.soft_cap * std::tanh(score / options.soft_cap);
          weight[static_cast<std::size_t>(s)] = sees(options, b, t, s) ? std::exp(score) : 0;
          total += weight[static_cast<std::size_t>(s)];
        }
        if (total == 0) continue;
        for (std::int64_t s = 0; s < S; ++s) {
          for (std::int64_t d = 0; d < D; ++d)
            O[b][t][h][d] += weight[static_cast<std::size_t>(s)] / total * V[b][s][h / group][d];
        }
      }
    }
  }
  return out;
}

// Segments of uneven lengths with padding at the end, another cut in each row.
Tensor segments(std::int64_t batch, std::int64_t length) {
  Tensor ids = at::full({batch, length}, -1, at::kInt);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t padding = length > 4 ? length / 8 + b : 0;
    for (std::int64_t t = 0; t < length - padding; ++t) ids[b][t] = static_cast<int>(t / (length / 3 + b + 1));
  }
  return ids;
}

struct Case {
  std::string name;
  std::int64_t batch, query, key, heads, kv_heads, head_dim;
  AttentionOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> list;
  const auto add = [&](const char* name, std::int64_t T, std::int64_t S, std::int64_t H, std::int64_t K, std::int64_t D,
                       AttentionOptions options) {
    options.scale = 1 / std::sqrt(static_cast<double>(D));
    list.push_back({name, 2, T, S, H, K, D, options});
  };
  add("causal", 37, 37, 4, 2, 16, {});
  add("many_key_heads", 37, 37, 8, 4, 16, {});
  add("causal_long", 300, 300, 3, 1, 64, {});
  add("causal_exact_tiles", 256, 256, 3, 3, 64, {});
  add("full", 29, 41, 4, 4, 24, {.causal = false});
  add("one_query_decoding", 1, 33, 6, 2, 64, {.key_offset = 32});
  add("several_queries_decoding", 5, 133, 6, 2, 64, {.key_offset = 128});
  add("one_query_far_along", 1, 700, 3, 1, 64, {.soft_cap = 20, .key_offset = 699});
  add("one_query_with_a_window", 1, 600, 2, 1, 20, {.sliding_window = 300, .key_offset = 599});
  add("few_queries_of_padded_rows", 4, 140, 4, 2, 32, {.segment_ids = segments(2, 140), .key_offset = 100});
  add("few_queries_far_along", 3, 900, 7, 1, 72, {.sliding_window = 600, .key_offset = 897});
  add("one_query_of_large_groups", 1, 513, 10, 2, 21, {.key_offset = 512});
  add("cache_longer_than_needed", 3, 40, 2, 1, 8, {.key_offset = 20});
  add("window", 150, 150, 2, 1, 32, {.sliding_window = 17});
  add("window_of_one", 70, 70, 2, 2, 8, {.sliding_window = 1});
  add("soft_cap", 45, 45, 2, 1, 16, {.soft_cap = 2.0});
  add("segments", 140, 140, 4, 2, 32, {.segment_ids = segments(2, 140)});
  add("segments_and_window", 140, 140, 2, 2, 32, {.sliding_window = 20, .segment_ids = segments(2, 140)});
  add("segments_not_causal", 50, 50, 2, 1, 16, {.causal = false, .segment_ids = segments(2, 50)});
  add("all_padding", 9, 9, 2, 1, 8, {.segment_ids = at::full({2, 9}, -1, at::kInt)});
  add("one_token", 1, 1, 1, 1, 4, {});
  add("odd_head_dim", 67, 67, 2, 1, 20, {});
  add("wide_heads", 70, 70, 2, 1, 128, {});
  add("wider_heads", 40, 40, 1, 1, 256, {.soft_cap = 30, .segment_ids = segments(2, 40)});
  return list;
}

class Attention : public ::testing::TestWithParam<std::tuple<at::ScalarType, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(Kernels, Attention,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16, at::kDouble),
                                            ::testing::Range<std::size_t>(0, 24)),
                         [](const auto& info) {
                           return std::string(c10::toString(std::get<0>(info.param))) + "_" +
                                  cases()[std::get<1>(info.param)].name;
                         });

TEST_P(Attention, MatchesTheDefinition) {
  at::manual_seed(11);
  const auto type = std::get<0>(GetParam());
  const Case test = cases()[std::get<1>(GetParam())];
  const auto make = [&](std::int64_t length, std::int64_t heads) {
    return at::randn({test.batch, length, heads, test.head_dim}, at::kDouble).to(type).requires_grad_(true);
  };
  const Tensor q = make(test.query, test.heads), k = make(test.key, test.kv_heads), v = make(test.key, test.kv_heads);
  const Tensor out = attention(q, k, v, test.options);
  EXPECT_EQ(out.scalar_type(), type);
  // The contract's bound: eps(dtype) times values of size one to four, a few scores wide.
  const oumi::testing::Tolerance bound = type == at::kBFloat16 ? oumi::testing::Tolerance{1.6e-2, 1.6e-2} : tolerance(type);
  expect_close(out, reference(q, k, v, test.options), bound, test.name);

  // Gradients: float64's are held to central differences below; the others to float64's.
  const Tensor projection = at::randn(out.sizes(), at::kDouble);
  const auto gradients = oumi::testing::projected_gradients({out}, {projection}, {q, k, v});
  std::vector<Tensor> wide;
  for (const Tensor& input : {q, k, v}) wide.push_back(input.detach().to(at::kDouble).requires_grad_(true));
  const auto right =
      oumi::testing::projected_gradients({attention(wide[0], wide[1], wide[2], test.options)}, {projection.to(type)}, wide);
  for (std::size_t i = 0; i < 3; ++i) {
    const double scale = std::max(1.0, right[i].abs().max().item<double>());
    const double absolute = type == at::kBFloat16 ? 2e-2 : type == at::kFloat ? 5e-6 : 1e-11;
    expect_close(gradients[i], right[i], {bound.relative, absolute * scale}, test.name + " gradient " + std::to_string(i));
  }
}

TEST(Kernels, AttentionGradientsMatchCentralDifferences) {
  at::manual_seed(5);
  for (AttentionOptions options : {AttentionOptions{}, AttentionOptions{.causal = false}, AttentionOptions{.sliding_window = 2},
                                   AttentionOptions{.soft_cap = 1.5}, AttentionOptions{.segment_ids = segments(2, 5)}}) {
    options.scale = 0.6;
    const auto make = [](std::int64_t heads) { return at::randn({2, 5, heads, 3}, at::kDouble).requires_grad_(true); };
    oumi::testing::gradcheck([&](const auto& in) { return std::vector<Tensor>{attention(in[0], in[1], in[2], options)}; },
                             {make(4), make(2), make(2)});
  }
}

TEST(Kernels, AttentionTakesStridedInputsAndRepeatsBitForBit) {
  at::manual_seed(6);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Tensor packed = at::randn({2, 130, 6, 32}).to(type);  // q, k and v in one projection's output
    const auto run = [&](bool strided) {
      std::vector<Tensor> inputs;
      for (const auto& [first, heads] : {std::pair{0, 4}, std::pair{4, 1}, std::pair{5, 1}}) {
        const Tensor part = packed.narrow(2, first, heads);
        inputs.push_back((strided ? part.detach() : part.contiguous()).requires_grad_(true));
      }
      const Tensor out = attention(inputs[0], inputs[1], inputs[2], {.scale = 0.2});
      auto results = torch::autograd::grad({out}, inputs, {at::ones_like(out)});
      results.push_back(out);
      return results;
    };
    const auto first = run(true), second = run(false), again = run(true);
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_TRUE(first[i].equal(second[i])) << i;
      EXPECT_TRUE(first[i].equal(again[i])) << i;
    }
  }
}

// On processors with tile registers (AMX) both arrange these for themselves.
TEST(Kernels, AttentionAndLibTorchsProductsTakeTurns) {
  at::manual_seed(9);
  const auto values = [](at::IntArrayRef shape) { return at::randn(shape).to(at::kBFloat16); };
  const Tensor left = values({80, 96}), right = values({96, 112}), product = left.matmul(right);
  std::vector<Tensor> inputs{values({1, 64, 2, 64}), values({1, 64, 2, 64}), values({1, 64, 2, 64})};
  for (Tensor& input : inputs) input.requires_grad_(true);
  const auto run = [&](bool between) {
    const Tensor out = attention(inputs[0], inputs[1], inputs[2], {});
    if (between) EXPECT_TRUE(left.matmul(right).equal(product));
    auto results = torch::autograd::grad({out}, inputs, {at::ones_like(out)});
    results.push_back(out);
    if (between) EXPECT_TRUE(left.matmul(right).equal(product));
    return results;
  };
  const auto alone = run(false);
  for (int turn = 0; turn < 3; ++turn) {
    const auto results = run(true);
    for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(results[i].equal(alone[i])) << i;
  }
}

std::string error_of(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  try {
    attention(q, k, v, options);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// A sequence's next token does not change with the padding that a longer sequence beside it brings.
TEST(Kernels, AttentionOfFewQueriesDoesNotDependOnWhatIsBeforeThem) {
  at::manual_seed(8);
  const c10::AutoGradMode no_grad(false);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Tensor q = at::randn({1, 1, 6, 40}).to(type), k = at::randn({1, 700, 2, 40}).to(type),
                 v = at::randn({1, 700, 2, 40}).to(type);
    const Tensor alone = attention(q, k, v, {.key_offset = 699});
    for (const std::int64_t padding : {9, 100, 256}) {
      const auto padded = [&](const Tensor& tensor) {
        return at::cat({at::randn({1, padding, 2, 40}).to(type), tensor}, 1).expand({2, -1, -1, -1});
      };
      Tensor segments = at::zeros({2, 700 + padding}, at::kInt);
      segments.select(0, 1).narrow(0, 0, padding).fill_(-1);
      const Tensor both =
          attention(q.expand({2, -1, -1, -1}), padded(k), padded(v), {.segment_ids = segments, .key_offset = 699 + padding});
      EXPECT_TRUE(both.narrow(0, 1, 1).equal(alone)) << type << ", padding " << padding;
      EXPECT_FALSE(both.narrow(0, 0, 1).equal(alone));
    }
  }
}

TEST(Kernels, AttentionNamesWhatDoesNotFit) {
  using ::testing::HasSubstr;
  const Tensor q = at::randn({1, 4, 3, 8}), k = at::randn({1, 4, 2, 8}), k1 = at::randn({1, 4, 1, 8});
  EXPECT_THAT(error_of(q, k, k, {}), HasSubstr("multiple of kv_heads, got 3 and 2"));
  EXPECT_THAT(error_of(q, k1, k, {}), HasSubstr("[1, 4, 1, 8]"));
  EXPECT_THAT(error_of(q, k1, k1.to(at::kDouble), {}), HasSubstr("one floating-point dtype"));
  EXPECT_THAT(error_of(q, k1, k1, {.key_offset = 1}), HasSubstr("key_offset"));
  EXPECT_THAT(error_of(q, k1, k1, {.causal = false, .sliding_window = 2}), HasSubstr("sliding_window"));
  EXPECT_THAT(error_of(q, k1, k1, {.segment_ids = at::zeros({1, 3}, at::kInt)}), HasSubstr("segment_ids int32 [1, 4]"));
}

}  // namespace
}  // namespace oumi::kernels
