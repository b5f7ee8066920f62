#include "oumi/distributed/peer_watch.h"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <vector>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr auto kBeat = std::chrono::seconds(1);
constexpr auto kPatience = std::chrono::milliseconds(2500);
constexpr std::size_t kRecentCalls = 6;

std::string key_of(std::int64_t rank) { return cat("alive/", rank); }

// A beat, as text: COUNT, GROUP, CALL, OPERATION, STEP, BYTES, parted by tabs.
struct Beat {
  std::string text;  // empty: none yet
  CollectiveCall at;
  std::string operation, step = "0";

  std::string place() const {
    if (text.empty()) return "never";
    return (operation.empty() ? "computing" : cat("in ", operation)) + " after step " + step;
  }
};

Beat read(c10d::Store& store, std::int64_t rank) {
  const std::string key = key_of(rank);
  Beat beat;
  if (!store.check({key})) return beat;
  const std::vector<std::uint8_t> bytes = store.get(key);
  beat.text.assign(bytes.begin(), bytes.end());
  const std::vector<std::string> parts = split(beat.text, '\t');
  if (parts.size() != 6) return beat;
  beat.at.group = parts[1];
  beat.at.call = std::atoll(parts[2].c_str());
  beat.operation = parts[3];
  beat.step = parts[4];
  beat.at.bytes = std::atoll(parts[5].c_str());
  return beat;
}

std::string describe_call(std::int64_t call, std::int64_t bytes, bool with_bytes) {
  return with_bytes ? cat("(call ", call, ", ", bytes, " bytes)") : cat("(call ", call, ")");
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

void PeerWatch::enter(CollectiveCall call) {
  const std::lock_guard lock(place_mutex_);
  place_ = std::move(call);
  // Waiting for a collective is a call of its own, of the same name.
  if (recent_.empty() || std::string(recent_.back().operation) != place_.operation) recent_.push_back(place_);
  if (recent_.size() > kRecentCalls) recent_.pop_front();
}

void PeerWatch::leave() {
  const std::lock_guard lock(place_mutex_);
  place_.operation = "";
}

CollectiveCall PeerWatch::place() {
  const std::lock_guard lock(place_mutex_);
  return place_;
}

void PeerWatch::beat() {
  for (std::int64_t count = 1;; ++count) {
    std::string text;
    {
      const std::lock_guard lock(place_mutex_);
      text = cat(count, "\t", place_.group, "\t", place_.call, "\t", place_.operation, "\t", step_, "\t", place_.bytes);
    }
    try {
      store_->set(key_of(rank_), std::vector<std::uint8_t>(text.begin(), text.end()));
    } catch (const std::exception&) {
      return;  // rank 0 is gone; the next collective says so
    }
    std::unique_lock lock(mutex_);
    if (wake_.wait_for(lock, kBeat, [this] { return stop_; })) return;
  }
}

std::string PeerWatch::recent_calls(bool with_bytes) {
  const std::lock_guard lock(place_mutex_);
  std::vector<std::string> calls;
  for (const CollectiveCall& call : recent_)
    calls.push_back(with_bytes ? cat(call.operation, " (", call.bytes, " bytes)") : call.operation);
  return join(calls, ", ");
}

std::string PeerWatch::describe() {
  const CollectiveCall own = place();
  bool other_sizes = false;
  std::vector<Beat> before(static_cast<std::size_t>(world_size_));
  std::vector<std::string> silent, others, out_of_step;
  try {
    for (std::int64_t rank = 0; rank < world_size_; ++rank) before[static_cast<std::size_t>(rank)] = read(*store_, rank);
    std::this_thread::sleep_for(kPatience);
    for (std::int64_t rank = 0; rank < world_size_; ++rank) {
      if (rank == rank_) continue;
      const Beat& then = before[static_cast<std::size_t>(rank)];
      const Beat now = read(*store_, rank);
      if (now.text == then.text) {
        silent.push_back(cat("rank ", rank, " (last seen ", now.place(), ")"));
        continue;
      }
      others.push_back(cat("rank ", rank, " is ", now.place()));
      // One that stays in another call than this rank's did not come to the same one.
      const bool stays = !now.operation.empty() && now.operation == then.operation && now.at.call == then.at.call;
      const bool other_call = now.at.call != own.call || now.operation != own.operation;
      const bool other_size = !other_call && now.at.bytes != own.bytes;
      if (!stays || now.at.group != own.group || !(other_call || other_size)) continue;
      other_sizes = other_sizes || other_size;
      out_of_step.push_back(cat("rank ", rank, " in ", now.operation, " ", describe_call(now.at.call, now.at.bytes, other_size),
                                " after step ", now.step));
    }
  } catch (const std::exception&) {
    return "no sign of life from rank 0, which keeps the ranks' meeting point";
  }
  if (!silent.empty()) return "no sign of life from " + join(silent, ", ");
  if (!out_of_step.empty()) {
    return cat(other_sizes ? kOtherSizes : "ranks that are out of step", ": this one in ", own.operation, " ",
               describe_call(own.call, own.bytes, other_sizes), ", ", join(out_of_step, ", "),
               "; the last calls of this rank: ", recent_calls(/*with_bytes=*/false));
  }
  return join(others, ", ");
}

}  // namespace oumi
