#include "oumi/distributed/peer_watch.h"

#include <chrono>
#include <exception>
#include <vector>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr auto kBeat = std::chrono::seconds(1);
constexpr auto kPatience = std::chrono::milliseconds(2500);

std::string key_of(std::int64_t rank) { return cat("alive/", rank); }

std::string read(c10d::Store& store, std::int64_t rank) {
  const std::string key = key_of(rank);
  if (!store.check({key})) return "";
  const std::vector<std::uint8_t> bytes = store.get(key);
  return {bytes.begin(), bytes.end()};
}

// A beat is "COUNT where it is".
std::string place(const std::string& beat) {
  const auto space = beat.find(' ');
  return space == std::string::npos ? "never" : beat.substr(space + 1);
}

}  // namespace

PeerWatch::PeerWatch(c10::intrusive_ptr<c10d::Store> store, std::int64_t rank, std::int64_t world_size)
    : store_(std::move(store)), rank_(rank), world_size_(world_size), thread_([this] { beat(); }) {}

PeerWatch::~PeerWatch() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void PeerWatch::beat() {
  for (std::int64_t count = 1;; ++count) {
    const char* operation = operation_;
    const std::string text = *operation == 0 ? cat(count, " computing after step ", step_) : cat(count, " in ", operation, " after step ", step_);
    try {
      store_->set(key_of(rank_), std::vector<std::uint8_t>(text.begin(), text.end()));
    } catch (const std::exception&) {
      return;  // rank 0 is gone; the next collective says so
    }
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, kBeat, [this] { return stop_; })) return;
  }
}

std::string PeerWatch::describe() {
  std::vector<std::string> before(static_cast<std::size_t>(world_size_)), silent, others;
  try {
    for (std::int64_t rank = 0; rank < world_size_; ++rank) before[static_cast<std::size_t>(rank)] = read(*store_, rank);
    std::this_thread::sleep_for(kPatience);
    for (std::int64_t rank = 0; rank < world_size_; ++rank) {
      if (rank == rank_) continue;
      const std::string now = read(*store_, rank);
      if (now == before[static_cast<std::size_t>(rank)]) {
        silent.push_back(cat("rank ", rank, " (last seen ", place(now), ")"));
      } else {
        others.push_back(cat("rank ", rank, " is ", place(now)));
      }
    }
  } catch (const std::exception&) {
    return "no sign of life from rank 0, which keeps the ranks' meeting point";
  }
  if (!silent.empty()) return "no sign of life from " + join(silent, ", ");
  return join(others, ", ");
}

}  // namespace oumi
