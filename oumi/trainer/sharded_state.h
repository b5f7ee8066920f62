// Checkpoint files of a run whose state is split over ranks, and reading them at any layout.
//   optimizer-00001-of-00002.safetensors  "<parameter>.<slot>": this rank's elements of it, flat
//   optimizer-00001-of-00002.json         {"scalars": optimizer_state.h's, "ranges": {parameter: [begin, end, elements in all]}}
// and model-rank-00001-of-00002.{safetensors,json} in the same way, where weights are saved in parts.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/distributed/sharding.h"
#include "oumi/models/language_model.h"
#include "oumi/optim/optimizer_state.h"

namespace oumi {

// Writes this rank's files.
void add_optimizer_part(CheckpointFiles& files, const ProcessGroup& group, const std::vector<ParameterShard>& shards, const OptimizerState& state);
// `whole`: tensors that rank 0 writes whole (buffers).
void add_weights_part(CheckpointFiles& files, const ProcessGroup& group, const std::vector<ParameterShard>& shards, const StateDict& whole);

// A parameter as the optimizer wants it: elements [begin, end) of it, flat; or all of it in its shape.
struct WantedPart {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;
  bool flat = false;
};

// The optimizer's state for `wanted`, from files of this or another layout, split or not. `here` is the optimizer's current
// state: its groups say which parameter is where. Throws UserError naming what is missing. Only what is wanted is read.
OptimizerState load_optimizer_parts(const std::filesystem::path& checkpoint, const std::vector<WantedPart>& wanted, const OptimizerState& here);

// On rank 0, for its length: the model's files are written from the shards of all ranks, which are in Sharding::serve_weights meanwhile.
class WeightsOfShards {
 public:
  WeightsOfShards(LanguageModel& model, Sharding& sharding);
  ~WeightsOfShards();
  WeightsOfShards(const WeightsOfShards&) = delete;
  WeightsOfShards& operator=(const WeightsOfShards&) = delete;

 private:
  LanguageModel& model_;
  Sharding& sharding_;
};

bool has_weights_parts(const std::filesystem::path& checkpoint);
// The whole weights, put together. `wanted` gives the names and shapes.
StateDict load_weights_parts(const std::filesystem::path& checkpoint, const StateDict& wanted);
// One by one; `wanted` needs no values.
void take_weights_parts(const std::filesystem::path& checkpoint, const StateDict& wanted, const LanguageModel::TakeWeight& take);

}  // namespace oumi
