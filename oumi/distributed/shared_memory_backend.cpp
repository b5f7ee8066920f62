#include "oumi/distributed/shared_memory_backend.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "oumi/base/strings.h"
#include "oumi/distributed/shared_memory.h"

namespace oumi {
namespace {

using Function = std::function<void()>;
using c10d::Work;

enum class Kind : std::uint32_t { kSum = 1, kMax, kBroadcast, kGather, kScatter };

// From this size on a collective is worth another thread.
constexpr std::size_t kBesideBytes = 1024 * 1024;
// From this size on more than two ranks divide a sum among them instead of each making all of it.
constexpr std::size_t kDividedBytes = 32 * 1024;

class SharedWork final : public Work {
 public:
  explicit SharedWork(std::vector<at::Tensor> results)
      : results_(std::move(results)),
        future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {}

  void run(const Function& work) {
    try {
      work();
      finish();
      future_->markCompleted(c10::IValue(results_));
    } catch (...) {
      finish(std::current_exception());
      future_->setError(std::current_exception());
    }
  }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  std::vector<at::Tensor> result() override { return results_; }

 private:
  std::vector<at::Tensor> results_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

// out[i] = parts[0][i] + parts[1][i] + ..., in that order.
template <class Value, class Sum>
void add_up(Value* out, const std::vector<const std::byte*>& parts, std::size_t count) {
  const auto* first = reinterpret_cast<const Value*>(parts[0]);
  if (parts.size() == 2) {
    const auto* second = reinterpret_cast<const Value*>(parts[1]);
    for (std::size_t i = 0; i < count; ++i)
      out[i] = static_cast<Value>(static_cast<Sum>(first[i]) + static_cast<Sum>(second[i]));
    return;
  }
  constexpr std::size_t kBlock = 512;
  Sum sums[kBlock];
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t size = std::min(kBlock, count - begin);
    for (std::size_t i = 0; i < size; ++i) sums[i] = static_cast<Sum>(first[begin + i]);
    for (std::size_t part = 1; part < parts.size(); ++part) {
      const auto* values = reinterpret_cast<const Value*>(parts[part]) + begin;
      for (std::size_t i = 0; i < size; ++i) sums[i] += static_cast<Sum>(values[i]);
    }
    for (std::size_t i = 0; i < size; ++i) out[begin + i] = static_cast<Value>(sums[i]);
  }
}

template <class Value>
void take_largest(Value* out, const std::vector<const std::byte*>& parts, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    Value largest = reinterpret_cast<const Value*>(parts[0])[i];
    for (std::size_t part = 1; part < parts.size(); ++part)
      largest = std::max(largest, reinterpret_cast<const Value*>(parts[part])[i]);
    out[i] = largest;
  }
}

template <class Value, class Sum = Value>
void reduce_values(Kind kind, void* out, const std::vector<const std::byte*>& parts, std::size_t count) {
  if (kind == Kind::kMax) return take_largest(static_cast<Value*>(out), parts, count);
  add_up<Value, Sum>(static_cast<Value*>(out), parts, count);
}

void reduce_parts(Kind kind, at::ScalarType dtype, void* out, const std::vector<const std::byte*>& parts, std::size_t count) {
  switch (dtype) {
    case at::kFloat: return reduce_values<float>(kind, out, parts, count);
    case at::kDouble: return reduce_values<double>(kind, out, parts, count);
    case at::kLong: return reduce_values<std::int64_t>(kind, out, parts, count);
    case at::kInt: return reduce_values<std::int32_t>(kind, out, parts, count);
    case at::kByte: return reduce_values<std::uint8_t>(kind, out, parts, count);
    case at::kBFloat16: return reduce_values<at::BFloat16, float>(kind, out, parts, count);
    case at::kHalf: return reduce_values<at::Half, float>(kind, out, parts, count);
    default: throw std::runtime_error(cat("sums of ", c10::toString(dtype), " are not implemented"));
  }
}

class SharedMemoryBackend final : public c10d::Backend {
 public:
  SharedMemoryBackend(std::unique_ptr<SharedMemory> memory, int rank, int size)
      : Backend(rank, size), memory_(std::move(memory)) {}

  ~SharedMemoryBackend() override {
    if (!thread_.joinable()) return;
    memory_->interrupt();
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  const std::string getBackendName() const override { return "shared_memory"; }

  c10::intrusive_ptr<Work> allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override {
    TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM || options.reduceOp == c10d::ReduceOp::MAX,
                "expected a sum or a maximum");
    const Kind kind = options.reduceOp == c10d::ReduceOp::SUM ? Kind::kSum : Kind::kMax;
    const at::Tensor tensor = only(tensors);
    return start({tensor}, tensor.nbytes(), [this, tensor, kind, call = next_call(kind, tensor, tensor.nbytes())] {
      const bool divided = size_ > 2 && tensor.nbytes() > kDividedBytes;
      for_each_piece(tensor.numel(), tensor.element_size(), SharedMemory::kChunk, [&](std::size_t first, std::size_t count) {
        std::byte* values = bytes_of(tensor) + first * tensor.element_size();
        if (divided) return reduce_divided(call, kind, tensor, values, count);
        publish(call, values, count * tensor.element_size());
        reduce_parts(kind, tensor.scalar_type(), values, parts(0), count);
      });
    });
  }

  c10::intrusive_ptr<Work> broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override {
    const at::Tensor tensor = only(tensors);
    const int root = static_cast<int>(options.rootRank);
    return start({tensor}, tensor.nbytes(), [this, tensor, root, call = next_call(Kind::kBroadcast, tensor, tensor.nbytes())] {
      for_each_piece(static_cast<std::int64_t>(tensor.nbytes()), 1, SharedMemory::kChunk,
                     [&](std::size_t first, std::size_t count) {
                       publish(call, bytes_of(tensor) + first, rank_ == root ? count : 0);
                       if (rank_ != root) copy(bytes_of(tensor) + first, memory_->of(root), count);
                     });
    });
  }

  c10::intrusive_ptr<Work> _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions&) override {
    check(output);
    check(input);
    TORCH_CHECK(output.nbytes() == input.nbytes() * static_cast<std::size_t>(size_), "expected room for all ranks' values");
    return start({output}, output.nbytes(), [this, output, input, call = next_call(Kind::kGather, input, input.nbytes())] {
      const std::size_t bytes = input.nbytes();
      for_each_piece(static_cast<std::int64_t>(bytes), 1, SharedMemory::kChunk, [&](std::size_t first, std::size_t count) {
        publish(call, bytes_of(input) + first, count);
        for (int other = 0; other < size_; ++other)
          copy(bytes_of(output) + static_cast<std::size_t>(other) * bytes + first, memory_->of(other), count);
      });
    });
  }

  c10::intrusive_ptr<Work> _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                const c10d::ReduceScatterOptions& options) override {
    check(output);
    check(input);
    TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM, "expected a sum");
    TORCH_CHECK(input.nbytes() == output.nbytes() * static_cast<std::size_t>(size_), "expected values for all ranks");
    return start({output}, input.nbytes(), [this, output, input, call = next_call(Kind::kScatter, output, output.nbytes())] {
      const std::size_t element = output.element_size(), ranks = static_cast<std::size_t>(size_);
      // A chunk has a piece for each rank.
      for_each_piece(output.numel(), element, SharedMemory::kChunk / ranks / 64 * 64,
                     [&](std::size_t first, std::size_t count) {
                       const std::size_t size = count * element;
                       for (std::size_t to = 0; to < ranks; ++to)
                         copy(memory_->own() + to * size, bytes_of(input) + to * output.nbytes() + first * element, size);
                       memory_->exchange(call);
                       reduce_parts(Kind::kSum, output.scalar_type(), bytes_of(output) + first * element,
                                    parts(static_cast<std::size_t>(rank_) * size), count);
                     });
    });
  }

 private:
  // An empty tensor has no address, which memcpy doesn't take even for no bytes.
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  static std::byte* bytes_of(const at::Tensor& tensor) { return static_cast<std::byte*>(tensor.data_ptr()); }

  static void check(const at::Tensor& tensor) {
    TORCH_CHECK(tensor.is_contiguous() && tensor.is_cpu(), "expected a contiguous tensor on the CPU");
  }
  static at::Tensor only(const std::vector<at::Tensor>& tensors) {
    TORCH_CHECK(tensors.size() == 1, "expected one tensor");
    check(tensors.front());
    return tensors.front();
  }

  SharedCall next_call(Kind kind, const at::Tensor& tensor, std::size_t bytes) {
    return {++calls_, static_cast<std::uint32_t>(kind), static_cast<std::uint32_t>(tensor.scalar_type()), bytes};
  }

  // Pieces of at most `room` bytes; one that is empty for no elements at all, so that ranks meet.
  template <class Use>
  static void for_each_piece(std::int64_t elements, std::size_t element, std::size_t room, Use&& use) {
    const std::size_t total = static_cast<std::size_t>(elements), most = std::max<std::size_t>(room / element, 1);
    for (std::size_t first = 0; first < total || first == 0; first += most) use(first, std::min(most, total - first));
  }

  void publish(const SharedCall& call, const std::byte* values, std::size_t bytes) {
    copy(memory_->own(), values, bytes);
    memory_->exchange(call);
  }

  std::vector<const std::byte*> parts(std::size_t offset) const {
    std::vector<const std::byte*> result;
    for (int rank = 0; rank < size_; ++rank) result.push_back(memory_->of(rank) + offset);
    return result;
  }

  // Each rank makes its part of the chunk, and all gather the parts.
  void reduce_divided(const SharedCall& call, Kind kind, const at::Tensor& tensor, std::byte* values, std::size_t count) {
    const std::size_t element = tensor.element_size(), ranks = static_cast<std::size_t>(size_);
    const auto begin = [&](std::size_t part) { return count * part / ranks; };
    const auto own = static_cast<std::size_t>(rank_);
    publish(call, values, count * element);
    reduce_parts(kind, tensor.scalar_type(), values + begin(own) * element, parts(begin(own) * element),
                 begin(own + 1) - begin(own));
    publish(call, values + begin(own) * element, (begin(own + 1) - begin(own)) * element);
    for (std::size_t part = 0; part < ranks; ++part) {
      if (part != own)
        copy(values + begin(part) * element, memory_->of(static_cast<int>(part)), (begin(part + 1) - begin(part)) * element);
    }
  }

  c10::intrusive_ptr<Work> start(std::vector<at::Tensor> results, std::size_t bytes, Function work) {
    auto pending = c10::make_intrusive<SharedWork>(std::move(results));
    std::unique_lock lock(mutex_);
    if (waiting_ == 0 && (bytes < kBesideBytes || at::get_num_threads() == 1)) {
      lock.unlock();
      pending->run(work);
      return pending;
    }
    // The order of calls is kept.
    ++waiting_;
    queue_.emplace_back([pending, work = std::move(work)] { pending->run(work); });
    if (!thread_.joinable()) thread_ = std::thread([this] { run_queue(); });
    lock.unlock();
    wake_.notify_all();
    return pending;
  }

  void run_queue() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Function work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
      --waiting_;
    }
  }

  std::unique_ptr<SharedMemory> memory_;
  std::uint64_t calls_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Function> queue_;
  std::size_t waiting_ = 0;  // in the queue and under way there
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_shared_memory_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                             std::chrono::milliseconds timeout) {
  std::unique_ptr<SharedMemory> memory = SharedMemory::connect(*store, rank, size, timeout);
  if (!memory) return nullptr;
  return c10::make_intrusive<SharedMemoryBackend>(std::move(memory), rank, size);
}

}  // namespace oumi
