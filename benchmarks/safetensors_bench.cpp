// Seconds to save and to load a folder's weights (every byte of them read), one JSON object on stdout.
// benchmarks/peers/weights.py prints the same for the Python library.
//
// usage: safetensors_bench MODEL.safetensors OUT.safetensors
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <torch/types.h>

#include <chrono>
#include <iostream>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/checkpoint/safetensors.h"

namespace {

double seconds_of(const std::function<void()>& action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: safetensors_bench MODEL.safetensors OUT.safetensors\n";
    return 2;
  }
  // Into memory of the process, as training does with weights: a map alone reads nothing.
  oumi::StateDict weights;
  const double load = seconds_of([&] {
    const oumi::SafetensorsFile file(argv[1]);
    for (const auto& [name, tensor] : file.tensors()) weights.set(name, tensor.clone());
  });
  double bytes = 0, sum = 0;
  for (const auto& [name, tensor] : weights) {
    bytes += static_cast<double>(tensor.nbytes());
    sum += tensor.sum(at::kDouble).item<double>();
  }
  const double save = seconds_of([&] { oumi::save_safetensors(argv[2], weights, {.keep_hashes = true}); });
  std::cout << oumi::Json{{"bytes", bytes}, {"sum", sum}, {"load_seconds", load}, {"save_seconds", save}}.dump() << '\n';
} catch (const oumi::Error& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
