#include <malloc.h>

#include <cstdlib>
#include <iostream>
#include <limits>

#include "cli/train_commands.h"
#include "oumi/distributed/rank_layout.h"
#include "oumi/tensors/tensor_memory.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/sharding_from_config.h"

namespace oumi::cli {
namespace {

// A training step asks for the same blocks again: tensors' memory stays with the process, and so does what else is freed, as
// the scratch memory of products is. With sharded weights blocks of many sizes come and go, whole weights that nobody writes to
// among them, and memory is what sharding is for: there every large block goes back. glibc's usual variables come first.
void choose_memory(const TrainingConfig& config) {
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
#ifndef __SANITIZE_ADDRESS__  // which watches what comes from the heap
  keep_tensor_memory();
#endif
}

}  // namespace

int train_command(const CommandLine& line) {
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  choose_memory(config);
  const TrainOutput output = train_from_config(config, {.overwrite = line.overwrite});
  if (read_rank_layout().rank != 0) return 0;
  std::cout << "trained " << output.global_step << " steps, mean loss " << output.training_loss << "; files are in "
            << config.training.output_dir << '\n';
  return 0;
}

}  // namespace oumi::cli
