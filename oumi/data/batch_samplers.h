// Batch samplers: which indices make up batch k of an epoch, read by position. PyTorch's BatchSampler and accelerate's
// BatchSamplerShard; tests/golden/data_order.py holds them to the originals. No torch here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

class Sampler;

struct BatchSamplerOptions {
  std::int64_t batch_size = 1;
  bool drop_last = false;  // leave out a last batch that is short
};

// Consecutive indices of a sampler, in batches. Derive from it for batches of another make.
class BatchSampler {
 public:
  // Throws UserError when the batch size is below 1 or there is no sampler.
  BatchSampler(std::shared_ptr<Sampler> sampler, BatchSamplerOptions options);
  virtual ~BatchSampler() = default;

  // Number of batches in an epoch.
  virtual std::int64_t size() const;
  // Fixes an epoch's order. Called before read().
  virtual void start_epoch(std::int64_t epoch);
  // Replaces `indices` by those of the batch at `position` of [0, size()).
  virtual void read(std::int64_t position, std::vector<std::int64_t>& indices) const;

  // nullopt when batches vary in size.
  virtual std::optional<std::int64_t> batch_size() const { return options_.batch_size; }
  virtual bool drop_last() const { return options_.drop_last; }

  // As Sampler's.
  virtual Json state_dict() const;
  virtual void load_state_dict(const Json& state);

  // Leaves out the first `count` samples of every epoch's order: how a run goes on with another batch size from within
  // an epoch. Throws UserError for a batch sampler that is not made from a sampler.
  void skip_samples(std::int64_t count);
  // Length of the sampler's order, skipped samples included; nullopt when not made from a sampler.
  std::optional<std::int64_t> num_samples() const;

 protected:
  // For batch samplers that need no sampler: override size, read, batch_size and, where there is one, the state.
  BatchSampler() = default;

 private:
  std::shared_ptr<Sampler> sampler_;
  BatchSamplerOptions options_;
  std::int64_t skipped_ = 0;
};

using BatchSamplerPtr = std::shared_ptr<BatchSampler>;

struct BatchSamplerShardOptions {
  std::int64_t num_processes = 1;
  std::int64_t process_index = 0;
  bool split_batches = false;  // give every rank a piece of each batch, instead of every num_processes-th batch
  bool even_batches = true;    // fill up from the epoch's start, so that all ranks get the same number of full batches
};

// accelerate's BatchSamplerShard: rank r's share of a batch sampler's batches. Without split_batches rank r has batches
// r, r + W, ...; what is left when W does not divide the epoch depends on drop_last and even_batches:
//   drop_last     only rounds in which every rank has a full batch
//   even_batches  the short batch is filled, and missing ones made, from the epoch's first batches
//   neither       ranks differ by at most one batch, and the last one may be short
class BatchSamplerShard : public BatchSampler {
 public:
  // Throws UserError when process_index is out of range, or split_batches is set and W does not divide the batch size.
  BatchSamplerShard(BatchSamplerPtr inner, BatchSamplerShardOptions options);

  std::int64_t size() const override;
  void start_epoch(std::int64_t epoch) override { inner_->start_epoch(epoch); }
  void read(std::int64_t position, std::vector<std::int64_t>& indices) const override;
  std::optional<std::int64_t> batch_size() const override;
  bool drop_last() const override { return inner_->drop_last(); }
  Json state_dict() const override { return inner_->state_dict(); }
  void load_state_dict(const Json& state) override { inner_->load_state_dict(state); }

 private:
  void read_split(std::int64_t position, std::vector<std::int64_t>& indices) const;
  void fill_from_start(std::vector<std::int64_t>& indices, std::int64_t offset, std::int64_t batches) const;
  std::int64_t size_of(std::int64_t inner_position) const;

  BatchSamplerPtr inner_;
  BatchSamplerShardOptions options_;
};

}  // namespace oumi
