// A dataset in the PyTorch spirit: map-style (size, get), iterable (next), or both; streamed or in memory. It yields
// preprocessed samples: model inputs and, optionally, labels.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "oumi/base/json.h"
#include "oumi/data/token_counts.h"
#include "oumi/tensors/batch.h"

namespace oumi {

// Thread safety: the loader calls get and get_batch from several threads at once, next from one at a time, and set_epoch
// and load_state_dict only while nothing is being fetched.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual bool is_map_style() const { return false; }
  virtual bool is_iterable() const { return false; }

  // Number of samples. Iterable datasets may not know: nullopt.
  virtual std::optional<std::int64_t> length() const { return std::nullopt; }
  // The same for map-style datasets, which always know. Throws UserError on an iterable dataset without a length.
  std::int64_t size() const;

  // Map style. Sample `index` of [0, size()). Throws UserError naming the index and the file.
  virtual Sample get(std::int64_t index);
  // Map style, the fast path (PyTorch's __getitems__): the samples collated into a batch. The default collates get().
  // `sample_ids` of the result are the indices.
  virtual Batch get_batch(std::span<const std::int64_t> indices);

  // Iterable. The next sample of this epoch; nullopt at its end.
  virtual std::optional<Sample> next();
  // Iterable. Keeps every `world_size`-th sample from `rank`, before the first next().
  virtual void shard(std::int64_t rank, std::int64_t world_size);

  // Starts an epoch: resets iteration and selects the epoch that random transforms and shuffles depend on. Random
  // transforms are functions of (seed, epoch, sample index), the same at any number of workers.
  virtual void set_epoch(std::int64_t epoch) { epoch_ = epoch; }
  std::int64_t epoch() const noexcept { return epoch_; }

  // Position and settings as plain JSON, O(1) in size; empty for a map-style dataset without state.
  virtual Json state_dict() const { return Json::object(); }
  virtual void load_state_dict(const Json& state) { (void)state; }

  // A human name for messages ("fashion_mnist/train"), and a hash of what the samples are made from: a resumed run
  // compares it.
  virtual std::string name() const { return "dataset"; }
  virtual std::string fingerprint() const { return name(); }
  // Length of sample `index` for length grouping, without loading it where possible; nullopt when unknown.
  virtual std::optional<std::int64_t> sample_length(std::int64_t index) const {
    (void)index;
    return std::nullopt;
  }
  // The same for the tokens of a text; nullopt when unknown.
  virtual std::optional<TokenCounts> token_counts(std::int64_t index) const {
    (void)index;
    return std::nullopt;
  }
  // Class names by label, when the dataset knows them; empty otherwise.
  virtual std::vector<std::string> class_names() const { return {}; }

 private:
  std::int64_t epoch_ = 0;
};

using DatasetPtr = std::shared_ptr<Dataset>;

// What most map-style datasets derive from.
class MapDataset : public Dataset {
 public:
  bool is_map_style() const override { return true; }
};

// What most iterable datasets derive from.
class IterableDataset : public Dataset {
 public:
  bool is_iterable() const override { return true; }
};

}  // namespace oumi
