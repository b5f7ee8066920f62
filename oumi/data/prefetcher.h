// The engine of a loader with workers: a pool of threads that makes the items of positions first, first + 1, ... ahead of
// the consumer, with a bound on how many are outstanding. Knows nothing of data or torch, so ThreadSanitizer sees all of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace oumi {

struct PrefetcherOptions {
  std::int64_t num_workers = 1;
  std::int64_t capacity = 2;  // items that workers have taken up and the consumer has not got yet
  bool in_order = true;
  std::function<void(std::int64_t worker)> on_thread_start = nullptr;  // runs first on each thread; may throw
};

// One consumer thread calls start, next and stop; the destructor stops and joins. A failed task ends the run: the next
// next() throws its exception, ahead of items that are ready, and so does each one after it until start or stop.
template <class Item>
class Prefetcher {
 public:
  // Makes the item of a position; nullopt: the position is past the end, which may be unknown beforehand.
  using Task = std::function<std::optional<Item>(std::int64_t position)>;

  struct Next {
    enum class Kind { kItem, kEnd, kTimeout };
    Kind kind = Kind::kEnd;
    std::int64_t position = 0;  // of the item; when kTimeout, of one that is late
    std::optional<Item> item;
  };

  // Throws std::system_error when a thread cannot be had.
  explicit Prefetcher(PrefetcherOptions options)
      : options_(std::move(options)), ring_(options_.in_order ? options_.capacity : 0) {
    try {
      for (std::int64_t i = 0; i < options_.num_workers; ++i) threads_.emplace_back([this, i] { work(i); });
    } catch (...) {
      shut_down();
      throw;
    }
  }
  ~Prefetcher() { shut_down(); }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Begins the run of positions [first, end) without those of `skip`. Tasks that give nullopt bring the end forward.
  void start(std::int64_t first, std::int64_t end, Task task, std::vector<std::int64_t> skip = {}) {
    stop();
    {
      const std::lock_guard lock(mutex_);
      task_ = std::move(task);
      skip_ = std::move(skip);
      next_task_ = after_skipped(first);
      next_item_ = next_task_;
      end_ = end;
      running_ = true;
    }
    work_waits_.notify_all();
  }

  // Ends the run, waits for tasks in progress and drops what is ready. On return no task of the run executes any more.
  void stop() {
    Task task;  // destroyed outside of the lock, as the items are
    std::vector<std::optional<Item>> ring(ring_.size());
    std::deque<std::pair<std::int64_t, Item>> ready;
    std::unique_lock lock(mutex_);
    running_ = false;
    item_waits_.wait(lock, [&] { return active_ == 0; });
    task.swap(task_);
    ring.swap(ring_);
    ready.swap(ready_);
    outstanding_ = 0;
    error_ = nullptr;
  }

  // Waits for the next item, in the order of positions or in that of completion. A `timeout` of 0 waits for ever.
  Next next(std::chrono::duration<double> timeout = {}) {
    std::unique_lock lock(mutex_);
    const auto arrived = [&] { return failed() || has_item() || ended(); };
    if (timeout.count() <= 0) {
      item_waits_.wait(lock, arrived);
    } else if (!item_waits_.wait_for(lock, timeout, arrived)) {
      return {Next::Kind::kTimeout, next_item_, std::nullopt};
    }
    if (failed()) std::rethrow_exception(start_error_ ? start_error_ : error_);
    if (!has_item()) return {Next::Kind::kEnd, end_, std::nullopt};
    Next next{Next::Kind::kItem, 0, std::nullopt};
    if (options_.in_order) {
      next.position = next_item_;
      next.item = std::exchange(slot(next_item_), std::nullopt);
      next_item_ = after_skipped(next_item_ + 1);
    } else {
      next.position = ready_.front().first;
      next.item = std::move(ready_.front().second);
      ready_.pop_front();
    }
    --outstanding_;
    lock.unlock();
    work_waits_.notify_one();
    return next;
  }

 private:
  // Below: the lock is held.
  std::optional<Item>& slot(std::int64_t position) { return ring_[static_cast<std::size_t>(position % options_.capacity)]; }
  bool failed() const { return error_ || start_error_; }
  bool has_item() { return options_.in_order ? next_item_ < end_ && slot(next_item_).has_value() : !ready_.empty(); }
  bool ended() const { return !running_ || (options_.in_order ? next_item_ >= end_ : next_task_ >= end_ && outstanding_ == 0); }
  bool may_take() const {
    if (!running_ || failed() || next_task_ >= end_) return false;
    return (options_.in_order ? next_task_ - next_item_ : outstanding_) < options_.capacity;
  }
  std::int64_t after_skipped(std::int64_t position) const {
    while (std::find(skip_.begin(), skip_.end(), position) != skip_.end()) ++position;
    return position;
  }

  void work(std::int64_t worker) {
    std::exception_ptr at_start;
    try {
      if (options_.on_thread_start) options_.on_thread_start(worker);
    } catch (...) {
      at_start = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    if (at_start) {
      start_error_ = at_start;
      item_waits_.notify_all();
      return;
    }
    for (;;) {
      work_waits_.wait(lock, [&] { return shutting_down_ || may_take(); });
      if (shutting_down_) return;
      const std::int64_t position = next_task_;
      next_task_ = after_skipped(position + 1);
      ++active_;
      ++outstanding_;
      lock.unlock();
      std::optional<Item> item;
      std::exception_ptr error;
      try {
        item = task_(position);  // task_ changes only when nothing is active
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      --active_;
      if (error) {
        if (!error_ || position < error_position_) {
          error_ = error;
          error_position_ = position;
        }
      } else if (!item) {
        end_ = std::min(end_, position);
        --outstanding_;
      } else if (options_.in_order) {
        slot(position) = std::move(item);
      } else {
        ready_.emplace_back(position, std::move(*item));
      }
      error = nullptr;
      // With no consumer waiting this costs no system call.
      item_waits_.notify_all();
    }
  }

  void shut_down() {
    {
      const std::lock_guard lock(mutex_);
      shutting_down_ = true;
      running_ = false;
    }
    work_waits_.notify_all();
    threads_.clear();  // joins
  }

  const PrefetcherOptions options_;
  std::mutex mutex_;
  std::condition_variable work_waits_, item_waits_;
  bool running_ = false, shutting_down_ = false;
  Task task_;
  std::vector<std::int64_t> skip_;
  std::int64_t next_task_ = 0;  // the next position to take up
  std::int64_t next_item_ = 0;  // in order: the next position to give out
  std::int64_t end_ = 0;
  std::int64_t active_ = 0;                          // tasks in progress
  std::int64_t outstanding_ = 0;                     // taken up and not given out
  std::vector<std::optional<Item>> ring_;            // in order: position p waits at p % capacity
  std::deque<std::pair<std::int64_t, Item>> ready_;  // not in order: as they were finished
  std::exception_ptr error_, start_error_;
  std::int64_t error_position_ = 0;
  std::vector<std::jthread> threads_;
};

}  // namespace oumi
