#include <malloc.h>

#include <cstdlib>
#include <iostream>
#include <limits>

#include "cli/train_commands.h"
#include "oumi/distributed/rank_layout.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/sharding_from_config.h"

namespace oumi::cli {
namespace {

// A training step asks for the same blocks again. Given back to the system in between, every page of them is cleared and mapped
// anew, so freed memory stays with the process. With sharded weights blocks of many sizes come and go, and memory is what
// sharding is for: there every large block goes back. glibc's usual variables come first.
void choose_heap(const TrainingConfig& config) {
#ifdef __GLIBC__
  for (const char* name : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}) {
    if (std::getenv(name) != nullptr) return;
  }
  if (sharding_options(config).shards_weights()) {
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    return;
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

}  // namespace

int train_command(const CommandLine& line) {
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  choose_heap(config);
  const TrainOutput output = train_from_config(config, {.overwrite = line.overwrite});
  if (read_rank_layout().rank != 0) return 0;
  std::cout << "trained " << output.global_step << " steps, mean loss " << output.training_loss << "; files are in "
            << config.training.output_dir << '\n';
  return 0;
}

}  // namespace oumi::cli
