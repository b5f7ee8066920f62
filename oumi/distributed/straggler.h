// Which rank holds the others up: all wait for the slowest at every collective, so their own clocks don't show it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "oumi/distributed/process_group.h"

namespace oumi {

struct Straggler {
  std::int64_t rank = 0;
  double seconds = 0;  // of its own for each update
  double others = 0;   // the others' median
};

// The slowest of ranks that take `seconds` each, when it takes at least 50 ms and 30 % more than the median of the others.
std::optional<Straggler> find_straggler(std::span<const double> seconds);

// Measures this rank's own time for each update: without collectives and without the part of backward that they run in. Every
// kWindow updates the ranks compare (one collective of world_size numbers).
class StragglerWatch {
 public:
  static constexpr std::int64_t kWindow = 6;

  explicit StragglerWatch(std::shared_ptr<ProcessGroup> group);

  void begin_update();
  // A message when a rank was the slowest in two windows one after another, and one when it no longer is. The same on all
  // ranks.
  std::optional<std::string> end_update();

 private:
  std::shared_ptr<ProcessGroup> group_;
  std::chrono::steady_clock::time_point began_;
  double began_in_collectives_ = 0, own_seconds_ = 0;
  std::int64_t updates_ = 0;
  std::int64_t suspect_ = -1, reported_ = -1;  // ranks; -1: none
};

}  // namespace oumi
