// Reads an iterable dataset in batches, this rank's share of it. Internal to the loader, which says what ranks get.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/data/dataset.h"

namespace oumi {

struct IterableReaderOptions {
  std::int64_t batch_size = 1;
  std::int64_t rank = 0;
  std::int64_t world_size = 1;
  bool drop_last = false;
  bool even_batches = true;
};

// Used by one thread at a time.
class IterableReader {
 public:
  // Shards the dataset where it can do so itself.
  IterableReader(DatasetPtr dataset, IterableReaderOptions options);

  // Goes to the start of an epoch.
  void start(std::int64_t epoch);
  // The samples of this rank's next batch; nullopt at the end of the epoch.
  std::optional<std::vector<Sample>> read_batch();
  // Batches in an epoch; nullopt when the dataset has no length.
  std::optional<std::int64_t> batches() const;

  // Where read_batch goes on. A dataset without a state of its own is read again up to there.
  Json state_dict() const;
  void load_state_dict(std::int64_t epoch, const Json& state);

 private:
  enum class Sharing { kWhole, kByDataset, kByReading };

  std::optional<Sample> next_sample();
  bool read_turn(std::vector<Sample>& samples, bool& any);
  void fill_up(std::vector<Sample>& samples);

  DatasetPtr dataset_;
  IterableReaderOptions options_;
  std::optional<std::int64_t> length_;
  Sharing sharing_ = Sharing::kWhole;
  std::int64_t epoch_ = 0;
  std::int64_t batches_read_ = 0;  // in this epoch
  bool finished_ = false;
};

}  // namespace oumi
