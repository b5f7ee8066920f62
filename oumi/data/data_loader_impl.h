// What is behind DataLoader. Internal.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "oumi/data/data_loader.h"
#include "oumi/data/data_loader_fetch.h"
#include "oumi/data/data_loader_iterable.h"
#include "oumi/data/prefetcher.h"

namespace oumi {

class DataLoader::Impl {
 public:
  Impl(DatasetPtr dataset, DataLoaderOptions options);
  ~Impl();

  void start_epoch(std::int64_t epoch, std::int64_t first_batch);
  void begin();
  std::optional<Batch> next();
  std::optional<std::int64_t> batches_per_epoch() const;
  std::int64_t epoch() const { return epoch_; }
  std::int64_t position() const { return position_; }
  Json state_dict() const;
  void load_state_dict(const Json& state);
  const DatasetPtr& dataset() const { return dataset_; }
  const DataLoaderOptions& options() const { return options_; }

 private:
  // A batch on its way from a worker, and where an iterable dataset stood after it.
  struct Loaded {
    Batch batch;
    Json reader_state;
  };

  void make_batch_sampler();
  void enter_epoch(std::int64_t epoch, std::int64_t skipped_samples);
  void go_to(std::int64_t position, std::set<std::int64_t> ahead);
  void count(std::int64_t position);
  void stop_workers();
  void start_workers();
  std::optional<Loaded> load(std::int64_t position);  // on a worker thread
  std::optional<Batch> next_from_workers();
  std::optional<std::vector<Sample>> read_stream();
  void load_map_state(const Json& state);
  void load_iterable_state(const Json& state);

  DatasetPtr dataset_;
  DataLoaderOptions options_;
  FetchOptions fetch_;

  // Map style: one of these; all batches of the sampler and this rank's share of them, which may be the same.
  BatchSamplerPtr all_batches_, batches_;
  std::mutex sampler_mutex_;           // the workers' reads
  std::vector<std::int64_t> indices_;  // of the caller's thread
  // Iterable.
  std::unique_ptr<IterableReader> reader_;
  Json reader_state_;  // after the last batch that the caller has got, when a worker is ahead of it

  std::int64_t epoch_ = 0;
  std::int64_t position_ = 0;
  std::int64_t end_ = 0;              // batches in this epoch; the largest number when not known
  std::int64_t skipped_samples_ = 0;  // at the start of this epoch's order, after a change of batch size
  std::set<std::int64_t> ahead_;      // in_order off: positions given out beyond the first that is not
  std::int64_t first_missing_ = 0;    // all positions before it have been given out
  bool started_ = false;              // an epoch is set up
  bool placed_ = false;               // by start_epoch or load_state_dict, with nothing given out since
  bool loaded_ = false;               // by load_state_dict

  bool fetching_ = false;
  std::unique_ptr<Prefetcher<Loaded>> workers_;  // last: its threads use everything above
};

}  // namespace oumi
