#include "oumi/data/batch_samplers.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/samplers.h"

namespace oumi {

BatchSampler::BatchSampler(std::shared_ptr<Sampler> sampler, BatchSamplerOptions options)
    : sampler_(std::move(sampler)), options_(options) {
  if (sampler_ == nullptr) throw UserError("BatchSampler", "sampler: expected a sampler, got none");
  if (options_.batch_size < 1) throw UserError("batch_size", cat("expected 1 or more, got ", options_.batch_size));
}

std::int64_t BatchSampler::size() const {
  const std::int64_t samples = std::max<std::int64_t>(0, sampler_->size() - skipped_);
  const std::int64_t full = samples / options_.batch_size;
  return full + (!options_.drop_last && samples % options_.batch_size != 0);
}

void BatchSampler::start_epoch(std::int64_t epoch) {
  if (sampler_ != nullptr) sampler_->start_epoch(epoch);
}

void BatchSampler::read(std::int64_t position, std::vector<std::int64_t>& indices) const {
  const std::int64_t first = skipped_ + position * options_.batch_size;
  const std::int64_t count = std::min(options_.batch_size, sampler_->size() - first);
  indices.resize(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) indices[static_cast<std::size_t>(i)] = sampler_->at(first + i);
}

Json BatchSampler::state_dict() const { return sampler_ == nullptr ? Json::object() : sampler_->state_dict(); }

void BatchSampler::load_state_dict(const Json& state) {
  if (sampler_ != nullptr) sampler_->load_state_dict(state);
}

void BatchSampler::skip_samples(std::int64_t count) {
  if (count != 0 && sampler_ == nullptr) {
    throw UserError("batch_sampler", cat("cannot leave out its first ", count, " samples: it is not made from a sampler"),
                    "resume with the batch size and world size that the state was saved with");
  }
  skipped_ = count;
}

std::optional<std::int64_t> BatchSampler::num_samples() const {
  return sampler_ == nullptr ? std::nullopt : std::optional(sampler_->size());
}

BatchSamplerShard::BatchSamplerShard(BatchSamplerPtr inner, BatchSamplerShardOptions options)
    : inner_(std::move(inner)), options_(options) {
  const std::int64_t world = options_.num_processes;
  if (inner_ == nullptr) throw UserError("BatchSamplerShard", "batch sampler: expected one, got none");
  if (world < 1) throw UserError("BatchSamplerShard", cat("world size: expected 1 or more, got ", world));
  if (options_.process_index < 0 || options_.process_index >= world) {
    throw UserError("BatchSamplerShard", cat("rank: expected 0 to ", world - 1, ", got ", options_.process_index));
  }
  if (options_.split_batches) {
    const auto batch_size = inner_->batch_size();
    if (!batch_size || *batch_size % world != 0) {
      throw UserError("split_batches", cat("batch size: expected a multiple of the world size ", world, ", got ",
                                           batch_size ? cat(*batch_size) : std::string("batches of varying size")));
    }
  }
}

std::optional<std::int64_t> BatchSamplerShard::batch_size() const {
  const auto size = inner_->batch_size();
  return size && options_.split_batches ? *size / options_.num_processes : size;
}

std::int64_t BatchSamplerShard::size_of(std::int64_t inner_position) const {
  std::vector<std::int64_t> indices;
  inner_->read(inner_position, indices);
  return static_cast<std::int64_t>(indices.size());
}

std::int64_t BatchSamplerShard::size() const {
  const std::int64_t batches = inner_->size(), world = options_.num_processes, rank = options_.process_index;
  if (options_.split_batches) {
    if (batches == 0 || options_.even_batches || inner_->drop_last()) return batches;
    const std::int64_t piece = *inner_->batch_size() / world;
    return batches - (size_of(batches - 1) <= piece * rank);
  }
  if (inner_->drop_last()) return batches / world;
  if (options_.even_batches) return (batches + world - 1) / world;
  return batches / world + (rank < batches % world);
}

void BatchSamplerShard::read(std::int64_t position, std::vector<std::int64_t>& indices) const {
  if (options_.split_batches) return read_split(position, indices);
  const std::int64_t batches = inner_->size(), world = options_.num_processes;
  const std::int64_t at = position * world + options_.process_index;
  const auto batch_size = inner_->batch_size();
  if (at < batches) {
    inner_->read(at, indices);
    if (batch_size && options_.even_batches && at == batches - 1) fill_from_start(indices, 0, world);
    return;
  }
  // A batch that the epoch does not have: made from its first batches.
  indices.clear();
  if (!batch_size) {
    inner_->read((at - batches) % std::min(batches, world), indices);
    return;
  }
  const std::int64_t lacking_in_last = *batch_size - size_of(batches - 1);
  fill_from_start(indices, lacking_in_last + (at - batches) * *batch_size, world);
}

// Completes `indices` to a full batch with the samples of the epoch's first `batches` batches, laid end to end and repeated,
// from sample `offset` on.
void BatchSamplerShard::fill_from_start(std::vector<std::int64_t>& indices, std::int64_t offset, std::int64_t batches) const {
  const std::int64_t batch_size = *inner_->batch_size();
  const auto full = static_cast<std::size_t>(batch_size);
  if (indices.size() >= full) return;
  batches = std::min(batches, inner_->size());
  const std::int64_t length = (batches - 1) * batch_size + size_of(batches - 1);
  std::vector<std::int64_t> source;
  for (std::int64_t loaded = -1; indices.size() < full; ++offset) {
    const std::int64_t wanted = offset % length / batch_size;
    if (wanted != loaded) inner_->read(loaded = wanted, source);
    indices.push_back(source[static_cast<std::size_t>(offset % length % batch_size)]);
  }
}

void BatchSamplerShard::read_split(std::int64_t position, std::vector<std::int64_t>& indices) const {
  const std::int64_t piece = *inner_->batch_size() / options_.num_processes;
  inner_->read(position, indices);
  if (options_.even_batches && !inner_->drop_last()) fill_from_start(indices, 0, 1);
  const auto length = static_cast<std::int64_t>(indices.size());
  const std::int64_t first = std::min(length, piece * options_.process_index);
  const std::int64_t last = std::min(length, first + piece);
  std::copy(indices.begin() + first, indices.begin() + last, indices.begin());
  indices.resize(static_cast<std::size_t>(last - first));
}

}  // namespace oumi
