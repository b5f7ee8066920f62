#include "oumi/distributed/straggler.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr double kLeastSeconds = 0.05;
constexpr double kLeastRatio = 1.3;

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f s", seconds);
  return text;
}

}  // namespace

std::optional<Straggler> find_straggler(std::span<const double> seconds) {
  if (seconds.size() < 2) return std::nullopt;
  const auto slowest = std::max_element(seconds.begin(), seconds.end());
  std::vector<double> others(seconds.begin(), slowest);
  others.insert(others.end(), slowest + 1, seconds.end());
  const auto middle = others.begin() + static_cast<std::ptrdiff_t>(others.size() / 2);
  std::nth_element(others.begin(), middle, others.end());
  if (*slowest < *middle + kLeastSeconds || *slowest < *middle * kLeastRatio) return std::nullopt;
  return Straggler{slowest - seconds.begin(), *slowest, *middle};
}

StragglerWatch::StragglerWatch(std::shared_ptr<ProcessGroup> group) : group_(std::move(group)) {}

void StragglerWatch::begin_update() {
  began_ = std::chrono::steady_clock::now();
  began_in_collectives_ = group_->seconds_in_collectives();
}

std::optional<std::string> StragglerWatch::end_update() {
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  own_seconds_ += std::max(wall - (group_->seconds_in_collectives() - began_in_collectives_), 0.0);
  if (++updates_ < kWindow) return std::nullopt;
  std::vector<double> all(static_cast<std::size_t>(group_->world_size()), 0);
  all[static_cast<std::size_t>(group_->rank())] = own_seconds_ / static_cast<double>(updates_);
  own_seconds_ = 0;
  updates_ = 0;
  group_->sum(all, "comparing the ranks' pace");
  const std::optional<Straggler> found = find_straggler(all);
  const std::int64_t now = found ? found->rank : -1, before = std::exchange(suspect_, now);
  if (now == before && now != reported_) {
    const std::int64_t last = std::exchange(reported_, now);
    if (now < 0) return cat("rank ", last, " keeps up with the others again");
    return cat("rank ", now, " holds the others up: it takes ", seconds_text(found->seconds),
               " of its own for an update (data, forward, optimizer), the others ", seconds_text(found->others),
               "; look at what else runs on its machine, at its clock rate and at its disk");
  }
  return std::nullopt;
}

}  // namespace oumi
