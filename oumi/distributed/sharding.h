// A model whose training state is split over ranks: each rank updates a part of every parameter, or none of it.
//
// Parameters are laid out one after another in flat buffers, which are cut into world_size equal parts (the last is padded): a
// part may begin or end within a parameter, as in Megatron's distributed optimizer. The optimizer sees, for each parameter, the
// elements that this rank has; any optimizer that works element by element gives the result that it gives on one rank.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "oumi/distributed/process_group.h"
#include "oumi/distributed/rank_mesh.h"
#include "oumi/distributed/sharding_options.h"
#include "oumi/tensors/module.h"

namespace oumi {

// One parameter's part on this rank: elements [begin, end) in row-major order; begin == end where it has none.
struct ParameterShard {
  std::string name = {};
  std::vector<std::int64_t> shape = {};  // of the whole parameter
  std::int64_t begin = 0, end = 0;
  bool trained = true;
  c10::ScalarType dtype = c10::ScalarType::Float;  // of value
  Tensor value = {};  // [end - begin], what the optimizer updates; undefined where there is nothing
};

class Sharding {
 public:
  virtual ~Sharding() = default;

  // In the order of the model's parameters. `value`s stay the same tensors throughout.
  const std::vector<ParameterShard>& shards() const noexcept { return shards_; }

  // Around the backward of each micro-batch; `last` is the update's last one.
  virtual void backward(const Tensor& loss, bool last) = 0;
  // After the last backward: the L2 norm of the mean gradient over all ranks, then its scaling to at most max_norm (> 0), and
  // each shard's grad() set. Returns the norm before scaling.
  virtual double clip_gradients(double max_norm) = 0;
  // For a model that is one rank's part of another (tensor parallelism): the norm goes over the ranks of `group` too.
  // `counted_elsewhere`: parameters that each of them has whole, which another rank counts.
  void spread_norm(std::shared_ptr<ProcessGroup> group, std::set<std::string> counted_elsewhere);
  // After the optimizer has updated the shards.
  virtual void after_step() = 0;
  virtual void zero_grad() = 0;

  // The whole weights in the model's parameters of rank 0, in the shards' dtype, from hold to release; on the other ranks
  // parameters are not to be touched meanwhile. Every rank calls both.
  virtual void hold_weights_on_main() {}
  virtual void release_weights() {}
  // The whole of a parameter on rank 0, in the shards' dtype, while the other ranks that have the same copy's shards are in
  // serve_weights; it lasts until end_weights. Costs one unit's memory. Of sharded weights alone.
  virtual Tensor gather_weight(const std::string& name);
  virtual void serve_weights() {}
  virtual void end_weights() {}
  // Sets this rank's part of a parameter.
  void set_weight(const std::string& name, const Tensor& whole);

  // Gives every rank the whole weights for good and takes the hooks off the model.
  virtual void gather_for_good() {}

 protected:
  bool counts(const std::string& name) const { return !counted_elsewhere_.contains(name); }
  bool counts_all() const { return counted_elsewhere_.empty(); }
  // Of what this rank counts -> of all ranks of spread_norm's group.
  double norm_over_parts(double own) const;

  std::vector<ParameterShard> shards_;

 private:
  std::shared_ptr<ProcessGroup> norm_group_;  // nullptr: the model is whole
  std::set<std::string> counted_elsewhere_;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// ZeRO-1 (Rajbhandari et al. 2019, arXiv:1910.02054; Megatron's distributed optimizer): gradients are averaged as in DDP, each
// rank updates its part, and the updated parts are gathered. Moves the parameters into flat buffers. `trained` as for
// GradientSync.
struct GradientSyncOptions;
std::unique_ptr<Sharding> shard_optimizer(std::shared_ptr<ProcessGroup> group, const NamedTensors& trained,
                                          const GradientSyncOptions& options);

// FSDP, within groups.shard; gradients are averaged over groups.copies too, whose ranks start with the same weights.
// `parameters` are all of the model's, each once; those below a unit are whole only while it computes. Units are found by
// `options`; what is in none belongs to the model itself, which is whole from the beginning of forward to the end of backward.
// So does what modules use without having it as a parameter, named in `shared` (the embedding that is a head's weight too).
// Throws UserError for a wrap class that no module has or that is a plain torch module (which has no call path).
std::unique_ptr<Sharding> shard_model(ShardGroups groups, Module& model, const NamedTensors& parameters,
                                      const ShardingOptions& options, const std::set<std::string>& shared = {});

}  // namespace oumi
