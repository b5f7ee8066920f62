#include "oumi/data/data_loader_iterable.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/data_loader_fetch.h"

namespace oumi {
namespace {
std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0); }
}  // namespace

IterableReader::IterableReader(DatasetPtr dataset, IterableReaderOptions options)
    : dataset_(std::move(dataset)), options_(options), length_(dataset_->length()) {
  if (options_.world_size == 1) return;
  const bool same_on_all_ranks = options_.drop_last || options_.even_batches;
  // Ranks agree on where the epoch ends from its length, or by each seeing the end of the whole stream.
  sharing_ = length_ || !same_on_all_ranks ? Sharing::kByDataset : Sharing::kByReading;
  if (sharing_ == Sharing::kByDataset) dataset_->shard(options_.rank, options_.world_size);
}

std::optional<std::int64_t> IterableReader::batches() const {
  if (!length_) return std::nullopt;
  const std::int64_t of_all_ranks = options_.batch_size * options_.world_size;
  if (options_.drop_last) return *length_ / of_all_ranks;
  if (options_.even_batches || options_.world_size == 1) return ceil_divide(*length_, of_all_ranks);
  const std::int64_t own = *length_ <= options_.rank ? 0 : ceil_divide(*length_ - options_.rank, options_.world_size);
  return ceil_divide(own, options_.batch_size);
}

void IterableReader::start(std::int64_t epoch) {
  dataset_->set_epoch(epoch);
  epoch_ = epoch;
  batches_read_ = 0;
  finished_ = false;
}

std::optional<Sample> IterableReader::next_sample() {
  try {
    return dataset_->next();
  } catch (...) {
    rethrow_naming(*dataset_, cat("reading on after ", batches_read_, " batches"));
  }
}

// Takes this rank's sample of the next world_size samples (of the next one, where the dataset is not shared here). False at
// the end of the stream; `any` is set when any rank has got a sample.
bool IterableReader::read_turn(std::vector<Sample>& samples, bool& any) {
  const std::int64_t turn = sharing_ == Sharing::kByReading ? options_.world_size : 1;
  for (std::int64_t i = 0; i < turn; ++i) {
    std::optional<Sample> sample = next_sample();
    if (!sample) return false;
    any = true;
    if (turn == 1 || i == options_.rank) samples.push_back(std::move(*sample));
  }
  return true;
}

// Completes the epoch's last batch with samples from its start, by reading it again.
void IterableReader::fill_up(std::vector<Sample>& samples) {
  const auto full = static_cast<std::size_t>(options_.batch_size);
  while (samples.size() < full) {
    const std::size_t before = samples.size();
    dataset_->set_epoch(epoch_);
    bool any = false;
    while (samples.size() < full && read_turn(samples, any)) {
    }
    if (samples.size() == before) {
      throw UserError(dataset_->name(),
                      cat("expected at least one sample for each of the ", options_.world_size, " ranks, got fewer"),
                      "use fewer ranks or more data, or set even_batches: false");
    }
  }
}

std::optional<std::vector<Sample>> IterableReader::read_batch() {
  const auto limit = options_.world_size > 1 && (options_.drop_last || options_.even_batches) ? batches() : std::nullopt;
  if (finished_ || (limit && batches_read_ >= *limit)) return std::nullopt;
  std::vector<Sample> samples;
  samples.reserve(static_cast<std::size_t>(std::min<std::int64_t>(options_.batch_size, 4096)));
  bool any = false;
  for (std::int64_t i = 0; i < options_.batch_size && !finished_; ++i) finished_ = !read_turn(samples, any);
  if (finished_) {
    if (options_.drop_last) {
      // Short for some rank. With a known length all ranks get here only when the dataset has less than it said.
      return std::nullopt;
    }
    const bool fill = options_.world_size > 1 && options_.even_batches && (any || limit);
    if (fill) fill_up(samples);
    if (samples.empty()) return std::nullopt;
  }
  ++batches_read_;
  return samples;
}

Json IterableReader::state_dict() const {
  return Json{{"batches_read", batches_read_}, {"finished", finished_}, {"dataset", dataset_->state_dict()}};
}

void IterableReader::load_state_dict(std::int64_t epoch, const Json& state) {
  start(epoch);
  const std::int64_t batches_read = state.at("batches_read").get<std::int64_t>();
  if (const Json& inner = state.at("dataset"); !inner.empty()) {
    dataset_->load_state_dict(inner);
    batches_read_ = batches_read;
  } else {
    while (batches_read_ < batches_read && read_batch()) {
    }
  }
  finished_ = state.at("finished").get<bool>();
}

}  // namespace oumi
