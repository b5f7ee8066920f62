#include "oumi/data/data_loader_impl.h"

#include <ATen/Context.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <system_error>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/samplers.h"

namespace oumi {
namespace {

constexpr std::int64_t kUnknownEnd = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMaxWorkers = 1024;

void expect_range(const char* name, std::int64_t value, std::int64_t lowest, std::int64_t highest) {
  if (value >= lowest && value <= highest) return;
  if (highest == kUnknownEnd) throw UserError(name, cat("expected ", lowest, " or more, got ", value));
  throw UserError(name, cat("expected ", lowest, " to ", highest, ", got ", value));
}

void check_options(const DataLoaderOptions& options, bool iterable, const std::string& dataset) {
  expect_range("batch_size", options.batch_size, 1, std::numeric_limits<std::int32_t>::max());
  expect_range("num_workers", options.num_workers, 0, kMaxWorkers);
  expect_range("world_size", options.world_size, 1, std::numeric_limits<std::int32_t>::max());
  expect_range("rank", options.rank, 0, options.world_size - 1);
  if (!(options.timeout >= 0) || std::isinf(options.timeout)) {
    throw UserError("timeout", cat("expected 0 or more seconds, got ", options.timeout));
  }
  if (options.num_workers == 0) {
    if (options.timeout > 0)
      throw UserError("timeout", cat("expected 0 without workers, got ", options.timeout), "set num_workers to 1 or more");
    if (options.prefetch_factor)
      throw UserError("prefetch_factor", "expected none without workers", "set num_workers to 1 or more");
    if (options.persistent_workers)
      throw UserError("persistent_workers", "expected false without workers", "set num_workers to 1 or more");
  } else if (options.prefetch_factor) {
    expect_range("prefetch_factor", *options.prefetch_factor, 1, 1 << 20);
  }
  if (iterable) {
    const char* given = options.shuffle         ? "shuffle"
                        : options.sampler       ? "sampler"
                        : options.batch_sampler ? "batch_sampler"
                                                : nullptr;
    if (given != nullptr) {
      throw UserError(given, "expected none for " + dataset + ", which is an iterable dataset",
                      "shuffle in the dataset, or use a map-style one");
    }
    if (options.split_batches && options.world_size > 1) {
      throw UserError("split_batches", "expected false for " + dataset + ", which is an iterable dataset");
    }
  }
  if (options.sampler && options.shuffle)
    throw UserError("sampler", "expected no shuffle beside it, got both", "shuffle in the sampler");
  if (options.batch_sampler && (options.batch_size != 1 || options.shuffle || options.sampler || options.drop_last)) {
    throw UserError("batch_sampler", "expected no batch_size, shuffle, sampler or drop_last beside it, got one of them",
                    "the batch sampler decides on these");
  }
}

}  // namespace

DataLoader::Impl::Impl(DatasetPtr dataset, DataLoaderOptions options)
    : dataset_(std::move(dataset)), options_(std::move(options)) {
  if (dataset_ == nullptr) throw UserError("dataset", "expected a dataset, got none");
  const bool map_style = dataset_->is_map_style();
  if (!map_style && !dataset_->is_iterable()) {
    throw UserError(dataset_->name(), "expected a map-style or an iterable dataset, got neither",
                    "derive from MapDataset or IterableDataset");
  }
  check_options(options_, !map_style, dataset_->name());
  fetch_ = {options_.collate_fn, options_.pin_memory && at::hasCUDA()};
  if (map_style) {
    make_batch_sampler();
  } else {
    reader_ = std::make_unique<IterableReader>(
        dataset_, IterableReaderOptions{options_.batch_size, options_.rank, options_.world_size, options_.drop_last,
                                        options_.even_batches});
  }
}

DataLoader::Impl::~Impl() = default;

void DataLoader::Impl::make_batch_sampler() {
  all_batches_ = options_.batch_sampler;
  if (all_batches_ == nullptr) {
    SamplerPtr sampler = options_.sampler;
    if (sampler == nullptr && options_.shuffle)
      sampler = std::make_shared<SeedableRandomSampler>(dataset_->size(), options_.seed);
    if (sampler == nullptr) sampler = std::make_shared<SequentialSampler>(dataset_->size());
    all_batches_ =
        std::make_shared<BatchSampler>(std::move(sampler), BatchSamplerOptions{options_.batch_size, options_.drop_last});
  }
  batches_ = all_batches_;
  if (options_.world_size > 1) {
    batches_ = std::make_shared<BatchSamplerShard>(
        all_batches_,
        BatchSamplerShardOptions{options_.world_size, options_.rank, options_.split_batches, options_.even_batches});
  }
}

std::optional<std::int64_t> DataLoader::Impl::batches_per_epoch() const {
  return reader_ ? reader_->batches() : std::optional(batches_->size());
}

// Sets an epoch up, at its start, once nothing is being fetched any more.
void DataLoader::Impl::enter_epoch(std::int64_t epoch, std::int64_t skipped_samples) {
  stop_workers();
  started_ = false;  // until all of it has worked
  if (reader_) {
    reader_->start(epoch);
    reader_state_ = nullptr;
    end_ = kUnknownEnd;
  } else {
    // Not without need: another loader over the same dataset may be fetching. (A dataset that overrides set_epoch may
    // leave epoch() at 0.)
    if (dataset_->epoch() != epoch || (epoch == 0 && epoch_ != 0)) dataset_->set_epoch(epoch);
    all_batches_->skip_samples(skipped_samples);
    batches_->start_epoch(epoch);
    end_ = batches_->size();
  }
  epoch_ = epoch;
  skipped_samples_ = skipped_samples;
  go_to(0, {});
  loaded_ = false;
  placed_ = started_ = true;
}

void DataLoader::Impl::go_to(std::int64_t position, std::set<std::int64_t> ahead) {
  position_ = position;
  first_missing_ = position - static_cast<std::int64_t>(ahead.size());
  ahead_ = std::move(ahead);
}

// Notes that the batch at `position` has been given out.
void DataLoader::Impl::count(std::int64_t position) {
  ++position_;
  if (position != first_missing_) {
    ahead_.insert(position);
    return;
  }
  ++first_missing_;
  while (!ahead_.empty() && *ahead_.begin() == first_missing_) {
    ahead_.erase(ahead_.begin());
    ++first_missing_;
  }
}

void DataLoader::Impl::start_epoch(std::int64_t epoch, std::int64_t first_batch) {
  expect_range("epoch", epoch, 0, kUnknownEnd);
  expect_range("first_batch", first_batch, 0, kUnknownEnd);
  enter_epoch(epoch, 0);
  if (reader_) {
    while (position_ < first_batch && read_stream()) count(position_);
  } else {
    expect_range("first_batch", first_batch, 0, end_);
    go_to(first_batch, {});
  }
}

void DataLoader::Impl::begin() {
  const bool at_saved_end = loaded_ && position_ >= end_;
  if (!started_) {
    enter_epoch(0, 0);
  } else if (!placed_ || at_saved_end) {
    enter_epoch(epoch_ + 1, 0);
  }
}

std::optional<std::vector<Sample>> DataLoader::Impl::read_stream() {
  auto samples = reader_->read_batch();
  if (!samples) end_ = std::min(end_, position_);
  return samples;
}

std::optional<Batch> DataLoader::Impl::next() {
  if (!started_) enter_epoch(0, 0);
  placed_ = loaded_ = false;
  if (position_ >= end_) {
    stop_workers();
    return std::nullopt;
  }
  if (options_.num_workers > 0) return next_from_workers();
  std::optional<Batch> batch;
  if (reader_) {
    const auto samples = read_stream();
    if (!samples) return std::nullopt;
    batch = collate_batch(*dataset_, *samples, fetch_);
  } else {
    batches_->read(first_missing_, indices_);
    batch = fetch_batch(*dataset_, indices_, fetch_);
  }
  count(first_missing_);
  return batch;
}

std::optional<DataLoader::Impl::Loaded> DataLoader::Impl::load(std::int64_t position) {
  if (reader_) {
    const auto samples = reader_->read_batch();
    if (!samples) return std::nullopt;
    Loaded loaded{collate_batch(*dataset_, *samples, fetch_), nullptr};
    loaded.reader_state = reader_->state_dict();
    return loaded;
  }
  std::vector<std::int64_t> indices;
  {
    const std::lock_guard lock(sampler_mutex_);
    batches_->read(position, indices);
  }
  return Loaded{fetch_batch(*dataset_, indices, fetch_), nullptr};
}

void DataLoader::Impl::start_workers() {
  if (workers_ == nullptr) {
    PrefetcherOptions options;
    options.num_workers = reader_ ? 1 : options_.num_workers;  // a stream has one reader
    options.capacity = options_.num_workers * options_.prefetch_factor.value_or(2);
    options.in_order = reader_ ? true : options_.in_order;
    options.on_thread_start = [init = options_.worker_init_fn](std::int64_t worker) {
      prepare_worker_thread(worker);
      if (init) init(worker);
    };
    try {
      workers_ = std::make_unique<Prefetcher<Loaded>>(std::move(options));
    } catch (const std::system_error& error) {
      throw EnvironmentError("num_workers", cat("cannot start ", options_.num_workers, " threads: ", error.what()),
                             "use fewer workers");
    }
  }
  if (reader_) reader_state_ = reader_->state_dict();
  workers_->start(
      first_missing_, end_, [this](std::int64_t position) { return load(position); },
      std::vector<std::int64_t>(ahead_.begin(), ahead_.end()));
  fetching_ = true;
}

void DataLoader::Impl::stop_workers() {
  fetching_ = false;
  if (workers_ == nullptr) return;
  workers_->stop();
  if (!options_.persistent_workers) workers_.reset();
}

std::optional<Batch> DataLoader::Impl::next_from_workers() {
  if (!fetching_) start_workers();
  auto next = workers_->next(std::chrono::duration<double>(options_.timeout));
  using Kind = Prefetcher<Loaded>::Next::Kind;
  if (next.kind == Kind::kTimeout) {
    throw EnvironmentError("timeout",
                           cat("batch ", next.position, " of epoch ", epoch_, " of ", dataset_->name(),
                               " has not come from the workers within ", options_.timeout, " s"),
                           "look at the speed of the data's disk, or raise timeout or num_workers");
  }
  if (next.kind == Kind::kEnd) {
    end_ = position_;
    stop_workers();
    return std::nullopt;
  }
  count(next.position);
  if (reader_) reader_state_ = std::move(next.item->reader_state);
  return std::move(next.item->batch);
}

}  // namespace oumi
