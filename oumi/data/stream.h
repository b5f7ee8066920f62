// Iterable datasets with an O(1) state, and what is built from them: shuffled, repeated, cut, joined and interleaved streams.
#pragma once

#include <functional>
#include <vector>

#include "oumi/data/dataset.h"
#include "oumi/data/mixture.h"
#include "oumi/data/random.h"
#include "oumi/data/split.h"

namespace oumi {

// The one place that knows about epochs, sharding and positions. Subclasses give the whole stream: produce, skip, rewind,
// position and seek. Rank r of W gets samples r, r + W, ... of it, each exactly once. States of all ranks after equally many
// samples are interchangeable, and a state loads at any world size.
class Stream : public IterableDataset {
 public:
  std::optional<Sample> next() final;
  // Throws UserError unless 0 <= rank < world_size.
  void shard(std::int64_t rank, std::int64_t world_size) final;
  void set_epoch(std::int64_t epoch) override;
  Json state_dict() const final;
  void load_state_dict(const Json& state) final;

  // The next sample of the whole stream; nullopt at its end.
  virtual std::optional<Sample> produce() = 0;
  // Passes over one sample, without building it where possible. False at the end.
  virtual bool skip() { return produce().has_value(); }
  // Back to the first sample of the epoch.
  virtual void rewind() = 0;
  // Where the stream stands; seek goes back there without replaying what lies before.
  virtual Json position() const = 0;
  virtual void seek(const Json& position) = 0;

 private:
  std::int64_t taken_ = 0;  // samples of the whole stream that are behind this rank
  std::int64_t rank_ = 0, world_size_ = 1;
};

using StreamPtr = std::shared_ptr<Stream>;

// `dataset` as a stream: itself, a map-style dataset read in order, or an iterable dataset of the user's.
StreamPtr as_stream(DatasetPtr dataset);

struct ShuffleBufferOptions {
  std::int64_t buffer_size = 1000;  // samples held in memory
  std::uint64_t seed = 0;
};

// Shuffles runs of buffer_size samples, each by an order that is a function of (seed, epoch, run): the state stays O(1), and
// resuming reads no more than one run again.
StreamPtr shuffle_stream(StreamPtr stream, ShuffleBufferOptions options);
// Exactly `count` samples, starting again from the beginning as often as needed.
StreamPtr repeat_stream(StreamPtr stream, std::int64_t count);
// Samples [range.begin, range.end).
StreamPtr slice_stream(StreamPtr stream, IndexRange range);
StreamPtr concat_streams(std::vector<StreamPtr> streams);

struct InterleaveOptions {
  std::vector<double> probabilities;
  std::uint64_t seed = 0;
  MixtureStrategy strategy = MixtureStrategy::kFirstExhausted;
};

// The order of datasets.interleave_datasets for iterable datasets, which is that of interleave_indices.
StreamPtr interleave_streams(std::vector<StreamPtr> streams, InterleaveOptions options);

}  // namespace oumi
