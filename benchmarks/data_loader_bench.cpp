// Samples per second of the DataLoader over Fashion-MNIST, one JSON object a line on stdout. benchmarks/peers/data_loader.py
// prints the same lines for torch.utils.data. The first line of each is a check of one shuffled epoch: order and contents
// have to be equal before times mean anything.
//
// usage: data_loader_bench [FOLDER_OF_FASHION_MNIST] [SECONDS_PER_CASE]
#include <ATen/ops/sum.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "oumi/base/error.h"
#include "oumi/data/data_loader.h"
#include "oumi/data/formats/idx.h"

namespace {

constexpr std::int64_t kBatchSize = 16;
constexpr std::uint64_t kSeed = 42;

double resident_mib() {
  std::ifstream status("/proc/self/statm");
  long pages = 0, resident = 0;
  status >> pages >> resident;
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

// A polynomial of the labels in their order, and the sum of all pixels.
oumi::Json check(const oumi::DatasetPtr& dataset, const oumi::CollateFn& collate_fn, std::int64_t num_workers) {
  oumi::DataLoader loader(
      dataset,
      {.batch_size = kBatchSize, .shuffle = true, .num_workers = num_workers, .collate_fn = collate_fn, .seed = kSeed});
  std::int64_t order = 0;
  double pixels = 0;
  for (const oumi::Batch& batch : loader) {
    pixels += batch.at("images").sum(at::kDouble).item<double>();
    const at::Tensor& labels = batch.at("labels");
    for (std::int64_t i = 0; i < labels.numel(); ++i) {
      order = (order * 1000003 + labels.const_data_ptr<std::int64_t>()[i] + 1) % 2147483647;
    }
  }
  return {{"order", order}, {"pixels", pixels}};
}

// Whole epochs until `seconds` have passed; the first one warms up.
oumi::Json measure(const oumi::DatasetPtr& dataset, const oumi::CollateFn& collate_fn, std::int64_t num_workers,
                   double seconds) {
  oumi::DataLoader loader(
      dataset,
      {.batch_size = kBatchSize, .shuffle = true, .num_workers = num_workers, .collate_fn = collate_fn, .seed = kSeed});
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  loader.next();
  const std::chrono::duration<double, std::milli> first_batch = Clock::now() - start;
  std::int64_t samples = 0;
  double elapsed = 0;
  for (std::int64_t epoch = 1; elapsed < seconds; ++epoch) {
    const auto begin = Clock::now();
    loader.start_epoch(epoch);
    while (const auto batch = loader.next()) samples += batch->batch_size();
    elapsed += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return {{"samples_per_second", static_cast<double>(samples) / elapsed},
          {"first_batch_ms", first_batch.count()},
          {"rss_mib", resident_mib()}};
}

int run(int argc, char** argv) {
  oumi::DatasetRequest request;
  request.split = "train";
  if (argc > 1) request.path = argv[1];
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1.0;
  const oumi::DatasetPtr dataset = oumi::make_fashion_mnist(request);

  // get_batch: the dataset makes whole batches. get: samples one by one, then default_collate, as PyTorch's loader does.
  const std::pair<const char*, oumi::CollateFn> paths[] = {{"get_batch", nullptr}, {"get", oumi::default_collate}};
  oumi::Json expected;
  for (const auto& [path, collate_fn] : paths) {
    for (const std::int64_t workers : {0, 2}) {
      const oumi::Json found = check(dataset, collate_fn, workers);
      if (expected.is_null()) expected = found;
      if (found != expected) {
        std::cerr << "paths disagree: expected " << expected << ", got " << found << " from " << path << " with " << workers
                  << " workers\n";
        return 1;
      }
    }
  }
  oumi::Json line{{"bench", "data_loader"}, {"side", "oumi"}, {"case", "check"}};
  line.update(expected);
  std::cout << line << std::endl;
  for (const auto& [path, collate_fn] : paths) {
    for (const std::int64_t workers : {0, 1, 2, 8}) {
      oumi::Json result{
          {"bench", "data_loader"}, {"side", "oumi"}, {"case", path}, {"batch_size", kBatchSize}, {"num_workers", workers}};
      result.update(measure(dataset, collate_fn, workers, seconds));
      std::cout << result << std::endl;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << "\n";
    return static_cast<int>(oumi::exit_code_for(error));
  }
}
