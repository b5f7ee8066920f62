// The fused operations beside the LibTorch compositions that they replace, at the shapes of SmolLM2-135M (batch 4 x 512),
// forward and backward: both sides are compared before anything is timed, sides alternate, and the least time of each counts.
// Then what the machine can do: products at the model's shapes and memory bandwidth.
//
//   kernels_bench [--filter TEXT] [--rounds N] [--rows-of-cross-entropy N] [--clock wall|cpu]      one JSON object a line
//
// On a machine with other work, OMP_NUM_THREADS=1 and --clock cpu (processor time) still give ratios that repeat.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "oumi/kernels/composed.h"
#include "oumi/kernels/conv_relu_pool.h"
#include "oumi/kernels/cpu/simd.h"
#include "oumi/kernels/gated_activation.h"
#include "oumi/kernels/linear.h"
#include "oumi/kernels/linear_cross_entropy.h"
#include "oumi/kernels/rotary.h"

namespace {

using at::Tensor;
using namespace oumi::kernels;  // the subject
using Tensors = std::vector<Tensor>;
using Operation = std::function<Tensors(const Tensors&)>;

struct Settings {
  std::string filter;
  int rounds = 7;
  std::int64_t cross_entropy_rows = 512;
};

bool use_cpu_time = false;

double now() {
  timespec time{};
  clock_gettime(use_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(const std::function<void()>& action) {
  const double begin = now();
  action();
  return now() - begin;
}

// Outputs, and gradients of their sum weighted by a fixed tensor.
Tensors forward_backward(const Operation& operation, const Tensors& inputs, const Tensors& upstream) {
  Tensors outputs = operation(inputs), wanted;
  for (const Tensor& input : inputs) {
    if (input.requires_grad()) wanted.push_back(input);
  }
  Tensors results = torch::autograd::grad(
      outputs, wanted, Tensors(upstream.begin(), upstream.begin() + static_cast<std::ptrdiff_t>(outputs.size())));
  results.insert(results.end(), outputs.begin(), outputs.end());
  return results;
}

// The largest difference relative to the largest value.
double difference(const Tensors& a, const Tensors& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Tensor left = a[i].detach().to(at::kFloat), right = b[i].detach().to(at::kFloat);
    const double largest = std::max(right.abs().max().item<double>(), 1e-30);
    const double off = (left - right).abs().max().item<double>() / largest;
    worst = std::isfinite(off) ? std::max(worst, off) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

void compare(const Settings& settings, const std::string& name, double gigaflop, const Tensors& inputs, const Operation& ours,
             const Operation& theirs) {
  if (name.find(settings.filter) == std::string::npos) return;
  Tensors upstream;
  for (const Tensor& output : ours(inputs)) upstream.push_back(at::randn(output.sizes(), at::kFloat).to(output.scalar_type()));
  const auto run = [&](const Operation& operation) { return forward_backward(operation, inputs, upstream); };
  // Where two pixels of a pooling window are equal but for rounding, the sides may send the gradient to either.
  const double bound = inputs[0].scalar_type() == at::kBFloat16 ? 5e-2
                       : name.starts_with("simple_model")       ? 1e-2
                                                                : 1e-4,
               off = difference(run(ours), run(theirs));
  if (!(off <= bound)) {
    std::cerr << name << ": the sides differ by " << off << " (allowed: " << bound << "); nothing is timed\n";
    std::exit(1);
  }
  double best_ours = std::numeric_limits<double>::infinity(), best_theirs = best_ours;
  for (int round = 0; round < settings.rounds; ++round) {
    best_ours = std::min(best_ours, seconds_of([&] { run(ours); }));
    best_theirs = std::min(best_theirs, seconds_of([&] { run(theirs); }));
  }
  nlohmann::json line{{"case", name},
                      {"ours_ms", best_ours * 1e3},
                      {"libtorch_ms", best_theirs * 1e3},
                      {"ratio", best_theirs / best_ours},
                      {"difference", off}};
  if (gigaflop > 0) line["ours_gflops"] = gigaflop / best_ours;
  std::cout << line << std::endl;
}

void measure(const Settings& settings, const std::string& name, double work, const char* unit,
             const std::function<void()>& action) {
  if (name.find(settings.filter) == std::string::npos) return;
  action();
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < settings.rounds; ++round) best = std::min(best, seconds_of(action));
  std::cout << nlohmann::json{{"case", name}, {"ms", best * 1e3}, {unit, work / best}} << std::endl;
}

Tensor random(at::IntArrayRef shape, at::ScalarType type) { return at::randn(shape, at::kFloat).to(type).requires_grad_(true); }

constexpr std::int64_t kBatch = 4, kLength = 512, kTokens = kBatch * kLength, kHidden = 576, kHeads = 9, kKeyHeads = 3,
                       kHeadDim = 64, kMiddle = 1536, kVocabulary = 49152;

void elementwise(const Settings& settings, at::ScalarType type, const std::string& suffix) {
  const RmsNormOptions options{.eps = 1e-5};
  compare(
      settings, "rms_norm" + suffix, 0, {random({kTokens, kHidden}, type), random({kHidden}, type)},
      [&](const Tensors& in) { return Tensors{rms_norm(in[0], in[1], options)}; },
      [&](const Tensors& in) { return Tensors{composed::rms_norm(in[0], in[1], options)}; });
  compare(
      settings, "add_rms_norm" + suffix, 0,
      {random({kTokens, kHidden}, type), random({kTokens, kHidden}, type), random({kHidden}, type)},
      [&](const Tensors& in) {
        auto [normed, sum] = add_rms_norm(in[0], in[1], in[2], options);
        return Tensors{normed, sum};
      },
      [&](const Tensors& in) {
        const Tensor sum = in[0] + in[1];
        return Tensors{composed::rms_norm(sum, in[2], options), sum};
      });
  compare(
      settings, "swiglu" + suffix, 0, {random({kTokens, kMiddle}, type), random({kTokens, kMiddle}, type)},
      [](const Tensors& in) { return Tensors{swiglu(in[0], in[1])}; },
      [](const Tensors& in) { return Tensors{composed::swiglu(in[0], in[1])}; });
  compare(
      settings, "geglu" + suffix, 0, {random({kTokens, kMiddle}, type), random({kTokens, kMiddle}, type)},
      [](const Tensors& in) { return Tensors{geglu(in[0], in[1])}; },
      [](const Tensors& in) { return Tensors{composed::geglu(in[0], in[1])}; });
  const Tensor angle = at::randn({kLength, kHeadDim / 2}), cos = angle.cos(), sin = angle.sin();
  const auto rotary = [&](auto function) {
    return [=](const Tensors& in) {
      auto [q, k] = function(in[0], in[1], cos, sin);
      return Tensors{q, k};
    };
  };
  compare(settings, "rotary" + suffix, 0,
          {random({kBatch, kLength, kHeads, kHeadDim}, type), random({kBatch, kLength, kKeyHeads, kHeadDim}, type)},
          rotary(apply_rotary), rotary(composed::apply_rotary));
}

// Products that a causal mask leaves, forward (2) and backward (5).
double attention_gigaflop(std::int64_t batch, std::int64_t length) {
  return 7.0 * batch * kHeads * length * length * kHeadDim / 1e9;
}

void attention_cases(const Settings& settings, at::ScalarType type, const std::string& suffix) {
  const auto run = [&](const std::string& name, std::int64_t batch, std::int64_t length, double gigaflop,
                       AttentionOptions options) {
    options.scale = 1 / std::sqrt(static_cast<double>(kHeadDim));
    compare(
        settings, name + suffix, gigaflop,
        {random({batch, length, kHeads, kHeadDim}, type), random({batch, length, kKeyHeads, kHeadDim}, type),
         random({batch, length, kKeyHeads, kHeadDim}, type)},
        [=](const Tensors& in) { return Tensors{attention(in[0], in[1], in[2], options)}; },
        [=](const Tensors& in) { return Tensors{composed::attention(in[0], in[1], in[2], options)}; });
  };
  run("attention_causal_4x512", kBatch, kLength, attention_gigaflop(kBatch, kLength), {});
  run("attention_causal_1x2048", 1, 2048, attention_gigaflop(1, 2048), {});
  run("attention_window_128_1x2048", 1, 2048, 0, {.sliding_window = 128});
  run("attention_segments_128_1x2048", 1, 2048, 0,
      {.segment_ids = at::arange(2048, at::kInt).div(128, "floor").to(at::kInt).unsqueeze(0)});
}

void cross_entropy_case(const Settings& settings, at::ScalarType type, const std::string& suffix) {
  const std::int64_t rows = settings.cross_entropy_rows;
  const Tensor labels = at::randint(0, kVocabulary, {rows}, at::kLong);
  compare(
      settings, "linear_cross_entropy_" + std::to_string(rows) + suffix,
      6.0 * static_cast<double>(rows * kHidden * kVocabulary) / 1e9,
      {random({rows, kHidden}, type), (at::randn({kVocabulary, kHidden}) * 0.04).to(type).requires_grad_(true)},
      [=](const Tensors& in) { return Tensors{linear_cross_entropy(in[0], in[1], {}, labels)}; },
      [=](const Tensors& in) { return Tensors{at::cross_entropy_loss(at::linear(in[0], in[1]).to(at::kFloat), labels)}; });
}

// One of the model's 30 decoder layers.
void decoder_layer(const Settings& settings, at::ScalarType type, const std::string& suffix) {
  const Tensor angle = at::randn({kLength, kHeadDim / 2}), cos = angle.cos(), sin = angle.sin();
  const AttentionOptions options{.scale = 0.125};
  const RmsNormOptions norm{.eps = 1e-5};
  constexpr std::int64_t kKeys = kKeyHeads * kHeadDim;
  const auto weight = [&](std::int64_t out, std::int64_t in) {
    return (at::randn({out, in}) * 0.04).to(type).requires_grad_(true);
  };
  const Tensors inputs{random({kBatch, kLength, kHidden}, type),
                       random({kHidden}, type),
                       random({kHidden}, type),
                       weight(kHidden, kHidden),
                       weight(kKeys, kHidden),
                       weight(kKeys, kHidden),
                       weight(kHidden, kHidden),
                       weight(kMiddle, kHidden),
                       weight(kMiddle, kHidden),
                       weight(kHidden, kMiddle)};
  const auto layer = [=](auto linear_form, auto norm_form, auto rotary_form, auto attention_form, auto gated_form,
                         auto add_norm_form) {
    return [=](const Tensors& in) {
      const Tensor h = norm_form(in[0], in[1], norm);
      const auto heads = [&](const Tensor& w) { return linear_form(h, w, std::nullopt).view({kBatch, kLength, -1, kHeadDim}); };
      auto [q, k] = rotary_form(heads(in[3]), heads(in[4]), cos, sin);
      const Tensor mixed = attention_form(q, k, heads(in[5]), options).reshape({kBatch, kLength, kHidden});
      auto [h2, sum] = add_norm_form(linear_form(mixed, in[6], std::nullopt), in[0], in[2], norm);
      return Tensors{linear_form(gated_form(linear_form(h2, in[7], std::nullopt), linear_form(h2, in[8], std::nullopt)), in[9],
                                 std::nullopt) +
                     sum};
    };
  };
  const auto composed_add_norm = [](const Tensor& x, const Tensor& residual, const Tensor& w, const RmsNormOptions& o) {
    const Tensor sum = x + residual;
    return std::pair(composed::rms_norm(sum, w, o), sum);
  };
  const auto linear_form = [](const Tensor& x, const Tensor& w, const std::optional<Tensor>& b) {
    return oumi::kernels::linear(x, w, b);
  };
  const auto at_linear = [](const Tensor& x, const Tensor& w, const std::optional<Tensor>& b) { return at::linear(x, w, b); };
  const double parameters = kHidden * (2.0 * kHidden + 2 * kKeys + 3 * kMiddle);
  compare(
      settings, "decoder_layer" + suffix, 6 * kTokens * parameters / 1e9 + attention_gigaflop(kBatch, kLength), inputs,
      layer(linear_form, rms_norm, apply_rotary, attention, swiglu, add_rms_norm),
      layer(at_linear, composed::rms_norm, composed::apply_rotary, composed::attention, composed::swiglu, composed_add_norm));
}

// SimpleModel's step up to the optimizer.
void simple_model(const Settings& settings) {
  for (const std::int64_t batch : {16, 128}) {
    const Tensor labels = at::randint(0, 10, {batch}, at::kLong), images = at::randn({batch, 1, 28, 28});
    const auto step = [=](auto layer) {
      return [=](const Tensors& in) {
        const Tensor hidden = layer(layer(images, in[0], in[1]), in[2], in[3]);
        return Tensors{at::cross_entropy_loss(at::linear(hidden.flatten(1), in[4], in[5]), labels)};
      };
    };
    const auto make = [](at::IntArrayRef shape) { return (at::randn(shape) * 0.1).requires_grad_(true); };
    compare(settings, "simple_model_" + std::to_string(batch), 5.0e-3 * static_cast<double>(batch),
            {make({20, 1, 5, 5}), make({20}), make({20, 20, 5, 5}), make({20}), make({10, 320}), make({10})},
            step(conv_relu_pool), step(composed::conv_relu_pool));
  }
}

void linear_layers(const Settings& settings, at::ScalarType type, const std::string& suffix) {
  for (const auto& [outputs, inputs] : std::vector<std::array<std::int64_t, 2>>{
           {kHidden, kHidden}, {kKeyHeads * kHeadDim, kHidden}, {kMiddle, kHidden}, {kHidden, kMiddle}}) {
    compare(
        settings, "linear_" + std::to_string(kTokens) + "x" + std::to_string(outputs) + "x" + std::to_string(inputs) + suffix,
        6.0 * static_cast<double>(kTokens * outputs * inputs) / 1e9,
        {random({kTokens, inputs}, type), random({outputs, inputs}, type)},
        [](const Tensors& in) { return Tensors{oumi::kernels::linear(in[0], in[1], {})}; },
        [](const Tensors& in) { return Tensors{at::linear(in[0], in[1])}; });
  }
}

void machine(const Settings& settings) {
  const c10::AutoGradMode no_grad(false);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const std::string suffix = type == at::kFloat ? ".fp32" : ".bf16";
    for (const auto& [rows, columns, inner] : std::vector<std::array<std::int64_t, 3>>{{kTokens, kHidden, kHidden},
                                                                                       {kTokens, 192, kHidden},
                                                                                       {kTokens, kMiddle, kHidden},
                                                                                       {kTokens, kHidden, kMiddle},
                                                                                       {kHidden, kMiddle, kTokens},
                                                                                       {512, kVocabulary, kHidden},
                                                                                       {512, kHidden, kVocabulary}}) {
      const Tensor a = at::randn({rows, inner}).to(type), b = at::randn({columns, inner}).to(type);
      measure(settings,
              "product_" + std::to_string(rows) + "x" + std::to_string(columns) + "x" + std::to_string(inner) + suffix,
              2.0 * static_cast<double>(rows * columns * inner) / 1e9, "gflops", [&] { at::linear(a, b); });
    }
  }
  const Tensor from = at::randn({1 << 25}), to = at::randn({1 << 25});
  measure(settings, "memory_copy", 2.0 * 4 * (1 << 25) / 1e9, "gigabytes_per_second", [&] { to.copy_(from); });
  measure(settings, "memory_read", 4.0 * (1 << 25) / 1e9, "gigabytes_per_second", [&] { from.sum(); });
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--filter") settings.filter = value;
    if (option == "--rounds") settings.rounds = std::stoi(value);
    if (option == "--clock") use_cpu_time = value == "cpu";
    if (option == "--rows-of-cross-entropy") settings.cross_entropy_rows = std::stoll(value);
  }
  at::manual_seed(1);
  std::cout << nlohmann::json{{"instructions", cpu::simd().name},
                              {"libtorch", at::get_cpu_capability()},
                              {"threads", at::get_num_threads()}}
            << std::endl;
  for (const auto& [type, suffix] : {std::pair{at::kFloat, ".fp32"}, std::pair{at::kBFloat16, ".bf16"}}) {
    elementwise(settings, type, suffix);
    attention_cases(settings, type, suffix);
    cross_entropy_case(settings, type, suffix);
    linear_layers(settings, type, suffix);
    decoder_layer(settings, type, suffix);
  }
  simple_model(settings);
  machine(settings);
}
