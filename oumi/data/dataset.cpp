#include "oumi/data/dataset.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/collate.h"

namespace oumi {

std::int64_t Dataset::size() const {
  if (const auto known = length()) return *known;
  throw UserError(name(), "has no known size: it is an iterable dataset", "set training.max_steps, or use a map-style dataset");
}

Sample Dataset::get(std::int64_t index) {
  throw UserError(name(), cat("cannot be indexed (asked for sample ", index, "): it is an iterable dataset"),
                  "iterate over it with next()");
}

Batch Dataset::get_batch(std::span<const std::int64_t> indices) {
  std::vector<Sample> samples;
  samples.reserve(indices.size());
  for (const std::int64_t index : indices) samples.push_back(get(index));
  Batch batch = default_collate(samples);
  batch.sample_ids.assign(indices.begin(), indices.end());
  return batch;
}

std::optional<Sample> Dataset::next() {
  throw UserError(name(), "cannot be iterated: it is a map-style dataset", "index it with get(i), or put a DataLoader over it");
}

void Dataset::shard(std::int64_t, std::int64_t) {
  throw UserError(name(), "cannot be sharded by itself: it is a map-style dataset", "shard the DataLoader over it instead");
}

}  // namespace oumi
