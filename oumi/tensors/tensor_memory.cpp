#include "oumi/tensors/tensor_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

namespace oumi {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLeast = 256 << 10;
// A process may have 65,530 mappings by default, and others want some.
constexpr std::size_t kMostBlocks = 20'000;

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Pages of their own; nullptr when the system refuses. Small ones: clearing huge ones cost a step more than it gained.
void* map_pages(std::size_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

class TensorMemory final : public c10::Allocator {
 public:
  // Alive for as long as any tensor: beyond static destructors.
  static TensorMemory& instance() {
    static auto* memory = new TensorMemory;
    return *memory;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes >= kLeast ? take(whole_pages(bytes)) : nullptr;
    if (data == nullptr)
      data = plain_.raw_allocate(bytes);
    else
      c10::profiledCPUMemoryReporter().New(data, bytes);
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

  TensorMemoryUse use() {
    const std::lock_guard lock(mutex_);
    return {used_, kept_, most_used_};
  }

 private:
  struct KeptBlock {
    void* data;
    std::uint64_t time;  // of its release
  };
  using Kept = std::multimap<std::size_t, KeptBlock>;

  static void release(void* data) {
    // Blocks of ours begin with a page, and almost no other does.
    const bool maybe_ours = reinterpret_cast<std::uintptr_t>(data) % kPage == 0;
    if (!maybe_ours || !instance().give(data)) instance().plain_.raw_deallocate(data);
  }

  // A kept block of at most a quarter more than `bytes`, or half more where new pages would push others out; else new
  // pages; nullptr when there are none.
  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const std::size_t most = std::max(most_used_, used_ + bytes), bound = most + most / 8;
    const bool crowded = used_ + kept_ + bytes > bound;
    const auto found = kept_by_size_.lower_bound(bytes);
    if (found != kept_by_size_.end() && found->first <= bytes + (crowded ? bytes / 2 : bytes / 4)) {
      void* data = found->second.data;
      in_use(data, found->first);
      kept_ -= found->first;
      forget(found);
      return data;
    }
    if (sizes_.size() + kept_by_size_.size() >= kMostBlocks) return nullptr;
    shrink_to(bound - used_ - bytes);
    void* data = map_pages(bytes);
    if (data == nullptr && kept_ > 0) {
      shrink_to(0);
      data = map_pages(bytes);
    }
    if (data == nullptr) return nullptr;
    try {
      in_use(data, bytes);
    } catch (...) {
      munmap(data, bytes);
      throw;
    }
    return data;
  }

  bool give(void* data) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = sizes_.find(data);
      if (found == sizes_.end()) return false;
      used_ -= found->second;
      keep(data, found->second);
      sizes_.erase(found);
    }
    c10::profiledCPUMemoryReporter().Delete(data);
    return true;
  }

  // Called by destructors: without memory for the entries the block goes back.
  void keep(void* data, std::size_t bytes) noexcept {
    auto block = kept_by_size_.end();
    try {
      block = kept_by_size_.emplace(bytes, KeptBlock{data, ++time_});
      by_time_.emplace(time_, block);
      kept_ += bytes;
    } catch (const std::bad_alloc&) {
      if (block != kept_by_size_.end()) kept_by_size_.erase(block);
      munmap(data, bytes);
    }
  }

  void in_use(void* data, std::size_t bytes) {
    sizes_.emplace(data, bytes);
    used_ += bytes;
    most_used_ = std::max(most_used_, used_);
  }

  void forget(Kept::iterator block) {
    by_time_.erase(block->second.time);
    kept_by_size_.erase(block);
  }

  void shrink_to(std::size_t bytes) {
    while (kept_ > bytes) {
      const auto block = by_time_.begin()->second;
      munmap(block->second.data, block->first);
      kept_ -= block->first;
      forget(block);
    }
  }

  c10::Allocator& plain_ = *c10::GetDefaultCPUAllocator();
  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;  // of blocks in use
  Kept kept_by_size_;
  std::map<std::uint64_t, Kept::iterator> by_time_;
  std::uint64_t time_ = 0;
  std::size_t used_ = 0, kept_ = 0, most_used_ = 0;
};

std::atomic<bool> installed = false;

}  // namespace

void keep_tensor_memory() {
  if (!installed.exchange(true)) c10::SetCPUAllocator(&TensorMemory::instance(), /*priority=*/1);
}

TensorMemoryUse tensor_memory_use() { return installed ? TensorMemory::instance().use() : TensorMemoryUse{}; }

}  // namespace oumi
