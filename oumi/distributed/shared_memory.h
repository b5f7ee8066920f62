// Memory that the ranks of one machine share: what each of them has for the others, a chunk at a time. It belongs to no file,
// and is gone with the last process that has it. Internal.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "oumi/distributed/c10d.h"

namespace oumi {

// What a rank is in the middle of: has to be the same on all.
struct SharedCall {
  std::uint64_t number = 0;  // of the group's calls
  std::uint32_t kind = 0, dtype = 0;
  std::uint64_t bytes = 0;

  bool operator==(const SharedCall&) const = default;
};

// Ranks that have met in one place with different calls, or with different sizes in the same one.
struct CallsDiffer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class SharedMemory {
 public:
  static constexpr std::size_t kChunk = 256 * 1024;  // what stays in a core's cache

  // Every rank of the store calls it. nullptr, on all of them, where they are not on one machine (in one network and process
  // namespace) or OUMI_SHARED_MEMORY=0 is set for one. Throws what the store throws.
  static std::unique_ptr<SharedMemory> connect(c10d::Store& store, int rank, int size, std::chrono::milliseconds timeout);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // This rank's chunk [kChunk] of the round to come: written before exchange.
  std::byte* own() { return chunk(rank_, round_); }
  // Lets the others see the own chunk, and waits for theirs. Throws CallsDiffer, or std::runtime_error when a rank has ended,
  // the timeout is over, or interrupt() was called; from then on it throws the same at once.
  void exchange(const SharedCall& call);
  // A rank's chunk of the round that was exchanged last: until the next exchange.
  const std::byte* of(int rank) const { return chunk(rank, round_ - 1); }

  // Ends the waiting of another thread.
  void interrupt() noexcept { interrupted_ = true; }

 private:
  struct Header;
  struct Mapping;
  SharedMemory(std::unique_ptr<Mapping> mapping, int rank, int size, std::chrono::milliseconds timeout);
  std::byte* chunk(int rank, std::uint32_t round) const;
  Header& header(int rank) const;
  void meet(const SharedCall& call);
  void wait_for(int rank, std::uint32_t round);
  bool has_ended(int rank) const;

  std::unique_ptr<Mapping> mapping_;
  const int rank_, size_;
  const std::chrono::milliseconds timeout_;
  const std::chrono::microseconds spin_;
  std::uint32_t round_ = 0;
  std::atomic<bool> interrupted_{false};
  std::exception_ptr failure_;  // the first one: rounds are out of step after it
};

}  // namespace oumi
