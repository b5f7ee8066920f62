// The loader: a dataset, an order, and threads that make batches ahead of the training loop.
//
// Names, defaults and errors are torch.utils.data.DataLoader's; the order for a seed is that of PyTorch with accelerate (as
// transformers' Trainer has it). Workers are threads: they share the dataset, so memory does not grow with their number,
// the first batch is there in milliseconds, and nothing is pickled. The state is O(1): a resumed run seeks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>

#include "oumi/base/json.h"
#include "oumi/data/batch_samplers.h"
#include "oumi/data/collate.h"
#include "oumi/data/dataset.h"

namespace oumi {

class Sampler;

struct DataLoaderOptions {
  std::int64_t batch_size = 1;
  bool shuffle = false;                                   // SeedableRandomSampler with `seed`
  std::shared_ptr<Sampler> sampler = nullptr;             // instead of shuffle
  std::shared_ptr<BatchSampler> batch_sampler = nullptr;  // instead of batch_size, shuffle, sampler and drop_last
  std::int64_t num_workers = 0;                           // threads; 0 loads in the caller's thread
  CollateFn collate_fn = nullptr;                         // none: the dataset's get_batch, the fast path
  bool pin_memory = false;                                // ignored where there is no accelerator, as in PyTorch
  bool drop_last = false;
  double timeout = 0;                                                 // seconds to wait for a batch from workers; 0: for ever
  std::function<void(std::int64_t worker)> worker_init_fn = nullptr;  // runs first on each worker thread
  std::optional<std::int64_t> prefetch_factor = std::nullopt;         // batches made ahead per worker; 2 when there are workers
  bool persistent_workers = false;                                    // keep the threads from one epoch to the next
  bool in_order = true;                                               // false: batches as they are finished

  // What PyTorch takes from a generator, and accelerate from its state.
  std::uint64_t seed = 0;  // epoch e is shuffled by seed + e
  std::int64_t rank = 0;   // this process's share of the batches, see BatchSamplerShard
  std::int64_t world_size = 1;
  bool even_batches = true;
  bool split_batches = false;  // batch_size is that of all ranks together

  // Reads `data.*.dataloader_kwargs`: every option of PyTorch's DataLoader by its name, `seed` (or `generator`, an int),
  // `num_workers: auto`, and `collate_fn` by its registered name. Throws UserError naming a key that is unknown, of the
  // wrong type, or that makes no sense for threads. Everything that the constructor of DataLoader refuses passes here.
  static DataLoaderOptions from_kwargs(const Json& dataloader_kwargs);
};

// Workers that `num_workers: auto` stands for: cores less one for the training thread, between 1 and 8 (0 on one core).
std::int64_t auto_num_workers();

// Map-style datasets are read in the sampler's order. Two loaders may share one as long as they are in the same epoch or
// not in use at the same time (the epoch is the dataset's).
//
// Iterable datasets are read by one thread, whatever num_workers is: samples come exactly once. With world_size > 1 rank r
// gets samples r, r + W, ... in batches of batch_size: through Dataset::shard when the dataset knows its length or
// even_batches is off, else by reading everything and keeping its own. Ranks then yield the same number of batches: with
// drop_last those that all ranks fill, else a short or missing last batch is filled from the epoch's first samples.
// even_batches off leaves ranks uneven. One loader at a time per iterable dataset.
//
// Not thread-safe itself: one consumer. Destroying a loader, or leaving a loop early, waits for samples being fetched, and
// no longer.
class DataLoader {
 public:
  // Throws UserError for options that contradict each other or the dataset.
  explicit DataLoader(DatasetPtr dataset, DataLoaderOptions options = {});
  DataLoader(DatasetPtr dataset, const Json& dataloader_kwargs);
  ~DataLoader();
  DataLoader(DataLoader&&) noexcept;
  DataLoader& operator=(DataLoader&&) noexcept;

  // Goes to batch `first_batch` of an epoch. Samples before it are not loaded, except for an iterable dataset, which has to
  // read them. Waits for what is being fetched, then calls Dataset::set_epoch.
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0);

  // The next batch; nullopt at the epoch's end (and again until start_epoch). The first call starts epoch 0.
  // A failing sample surfaces as the dataset's own error with the sample's index, in the first call after it happened, ahead
  // of batches that are ready; calls after that repeat it until start_epoch.
  std::optional<Batch> next();

  // Number of batches in an epoch on this rank, as len() in Python; nullopt for an iterable dataset without a length.
  std::optional<std::int64_t> batches_per_epoch() const;
  // The same; throws UserError where the length is not known.
  std::int64_t size() const;

  std::int64_t epoch() const;
  // Batches given to the caller in this epoch. Prefetched ones do not count.
  std::int64_t position() const;

  // Where the caller is: the next next() after load_state_dict of it yields what the next next() here would.
  Json state_dict() const;
  // Throws UserError when the state belongs to other data or another order: dataset length, seed of a shuffle, sampler. A
  // changed batch size or world size is fine for a map-style dataset: the epoch goes on with the samples not seen yet.
  void load_state_dict(const Json& state);

  const DatasetPtr& dataset() const;
  const DataLoaderOptions& options() const;

  // for (Batch& batch : loader): begin() starts the next epoch, or goes on where load_state_dict or start_epoch has put the
  // loader.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using pointer = Batch*;
    using reference = Batch&;

    Iterator() = default;
    explicit Iterator(DataLoader* loader) : loader_(loader), batch_(loader->next()) {}
    Batch& operator*() const { return *batch_; }
    Batch* operator->() const { return &*batch_; }
    Iterator& operator++() {
      batch_.reset();  // before the next one is made, so that its memory can be used again
      batch_ = loader_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !batch_; }

   private:
    DataLoader* loader_ = nullptr;
    mutable std::optional<Batch> batch_;
  };
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oumi
