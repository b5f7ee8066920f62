// Checkpoint files of a run whose state is split over ranks, and reading them at any layout.
//   optimizer-00001-of-00002.safetensors  "<parameter>.<slot>": this rank's elements of it, flat
//   optimizer-00001-of-00002.json         {"scalars": optimizer_state.h's, "ranges": {parameter: [begin, end, elements in
//   all]}}
// Of a model that is spread over a tensor-parallel group,
//   optimizer-tp-00001-of-00002.*         each rank's parts in their shapes, without "ranges", and "splits": {parameter: how it
//   is spread} optimizer-tp-00001-of-00002-dp-00001-of-00004.*  where that rank's parts are sharded in their turn: ranges are
//   within its part
// and model-rank-... in the same ways, where weights are saved in parts.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/distributed/sharding.h"
#include "oumi/models/language_model.h"
#include "oumi/optim/optimizer_state.h"

namespace oumi {

// Where a rank's state lies.
struct StateLayout {
  // Of the tensor-parallel group that the model is spread over.
  std::int64_t tensor_rank = 0, tensor_size = 1;
  std::map<std::string, TensorSplit> splits = {};
  // Of the ranks that this rank's parts are sharded over; of no meaning in reading.
  std::int64_t shard_rank = 0, shard_size = 1;
};
// With `shards`, the ranks of that group have them.
StateLayout state_layout(const Model& model, const ProcessGroup* shards = nullptr);

// Writes this rank's files. `shards`: nullptr for state that tensor parallelism alone splits.
void add_optimizer_part(CheckpointFiles& files, const StateLayout& layout, const std::vector<ParameterShard>* shards,
                        const OptimizerState& state);
// `whole`: tensors that the first of the shards' ranks writes whole (buffers).
void add_weights_part(CheckpointFiles& files, const StateLayout& layout, const std::vector<ParameterShard>& shards,
                      const StateDict& whole);

// What the optimizer wants of this rank's part of a parameter: elements [begin, end) of it, flat; or all of it in its shape.
struct WantedPart {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0, end = 0;
  bool flat = false;
};

// The optimizer's state for `wanted`, from files of this or another layout, split or not. `here` is the optimizer's current
// state: its groups say which parameter is where. Throws UserError naming what is missing. Only what is wanted is read.
OptimizerState load_optimizer_parts(const std::filesystem::path& checkpoint, const StateLayout& layout,
                                    const std::vector<WantedPart>& wanted, const OptimizerState& here);

// On rank 0 of the shards' ranks, for its length: the model's files are written from the shards of all, which are in
// Sharding::serve_weights meanwhile.
class WeightsOfShards {
 public:
  WeightsOfShards(Model& model, Sharding& sharding);
  ~WeightsOfShards();
  WeightsOfShards(const WeightsOfShards&) = delete;
  WeightsOfShards& operator=(const WeightsOfShards&) = delete;

 private:
  Model& model_;
  Sharding& sharding_;
};

bool has_weights_parts(const std::filesystem::path& checkpoint);
// The model's weights, put together: of one that is spread, this rank's parts.
StateDict load_weights_parts(const std::filesystem::path& checkpoint, const Model& model);
// The parameters one by one, which need no values; buffers are set.
void take_weights_parts(const std::filesystem::path& checkpoint, const Model& model, const TakeWeight& take);

}  // namespace oumi
