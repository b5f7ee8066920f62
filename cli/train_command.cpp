#include <iostream>

#include "cli/process_memory.h"
#include "cli/train_commands.h"
#include "oumi/distributed/rank_layout.h"
#include "oumi/trainer/from_config.h"
#include "oumi/trainer/sharding_from_config.h"

namespace oumi::cli {
int train_command(const CommandLine& line) {
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  choose_memory(sharding_options(config).shards_weights() ? FreedMemory::kGoesBack : FreedMemory::kStaysWithTensors);
  const TrainOutput output = train_from_config(config, {.overwrite = line.overwrite});
  if (read_rank_layout().rank != 0) return 0;
  std::cout << "trained " << output.global_step << " steps, mean loss " << output.training_loss << "; files are in "
            << config.training.output_dir << '\n';
  return 0;
}

}  // namespace oumi::cli
