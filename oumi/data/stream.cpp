#include "oumi/data/stream.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

std::optional<Sample> Stream::next() {
  while (taken_ % world_size_ != rank_) {
    if (!skip()) return std::nullopt;
    ++taken_;
  }
  std::optional<Sample> sample = produce();
  if (sample) ++taken_;
  return sample;
}

void Stream::shard(std::int64_t rank, std::int64_t world_size) {
  if (world_size < 1 || rank < 0 || rank >= world_size) {
    throw UserError(name(), cat("expected 0 <= rank < world size, got rank ", rank, " of ", world_size));
  }
  rank_ = rank;
  world_size_ = world_size;
}

void Stream::set_epoch(std::int64_t epoch) {
  Dataset::set_epoch(epoch);
  rewind();
  taken_ = 0;
}

Json Stream::state_dict() const {
  return Json{{"epoch", epoch()}, {"taken", taken_}, {"world_size", world_size_}, {"position", position()}};
}

void Stream::load_state_dict(const Json& state) {
  try {
    set_epoch(state.at("epoch").get<std::int64_t>());
    seek(state.at("position"));
    taken_ = state.at("taken").get<std::int64_t>();
    const auto world_size = state.at("world_size").get<std::int64_t>();
    if (world_size < 1 || taken_ < 0)
      throw UserError(name(), "state: expected world_size >= 1 and taken >= 0, got " + state.dump());
    // To the end of the round that was begun: the same place whichever rank wrote the state.
    for (; taken_ % world_size != 0; ++taken_) {
      if (!skip()) break;
    }
  } catch (const Json::exception& error) {
    throw UserError(name(), cat("state cannot be read: ", error.what()), "the checkpoint is of another dataset or version");
  }
}

}  // namespace oumi
