#include "oumi/distributed/shared_memory.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

// How often a rank that waits looks whether the others are still there.
constexpr auto kLook = std::chrono::milliseconds(50);
constexpr int kMostRanks = 512;  // a chunk has a piece for each
constexpr int kPauses = 2000;    // before the core is offered to other threads
// Waking a core that has gone to sleep takes longer than most exchanges, on virtual machines above all.
constexpr auto kSpin = std::chrono::milliseconds(2);

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

std::string link_target(const char* path) {
  char text[256];
  const ssize_t size = ::readlink(path, text, sizeof text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
}

// Equal for two processes that can be said to run on one machine: containers with networks of their own are machines of their
// own.
std::string this_machine() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return cat(boot, " ", link_target("/proc/self/ns/net"), " ", link_target("/proc/self/ns/pid"));
}

bool allowed() {
  const char* text = std::getenv("OUMI_SHARED_MEMORY");
  return text == nullptr || std::string(text) != "0";
}

std::chrono::microseconds time_to_spin() {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  const std::string text = policy == nullptr ? "" : to_lower(policy);
  return text == "passive" ? std::chrono::microseconds(0) : std::chrono::microseconds(kSpin);
}

// A lock on byte `rank`, which the kernel takes away when its process ends in any way: a sign of life that takes no time.
bool lock_byte(int descriptor, int command, int rank, bool* is_free) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  if (::fcntl(descriptor, command, &lock) != 0) return false;
  if (is_free != nullptr) *is_free = lock.l_type == F_UNLCK;
  return true;
}

}  // namespace

struct SharedMemory::Header {
  alignas(64) std::atomic<std::uint32_t> round;  // rounds that this rank has published
  std::atomic<std::uint32_t> sleepers;           // ranks that wait for `round` to change
  alignas(64) SharedCall calls[2];
};

struct SharedMemory::Mapping {
  class Descriptor {
   public:
    explicit Descriptor(int value) : value_(value) {}
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    ~Descriptor() {
      if (value_ >= 0) ::close(value_);
    }
    int get() const { return value_; }

   private:
    int value_;
  };

  Descriptor descriptor;  // of an opening of its own: its lock is not shared with other ranks of the process
  std::byte* data = nullptr;
  std::size_t size = 0;

  Mapping(Descriptor opened, std::size_t bytes) : descriptor(std::move(opened)), size(bytes) {
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.get(), 0);
    if (mapped != MAP_FAILED) data = static_cast<std::byte*>(mapped);
  }
  ~Mapping() {
    if (data != nullptr) ::munmap(data, size);
  }
  // nullptr where that file is not what rank 0 has made, or no longer there.
  static std::unique_ptr<Mapping> open(const std::string& path, std::size_t bytes, std::uint64_t mark, int rank) {
    Descriptor descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat status{};
    if (descriptor.get() < 0 || ::fstat(descriptor.get(), &status) != 0 || status.st_size != static_cast<off_t>(bytes))
      return nullptr;
    auto mapping = std::make_unique<Mapping>(std::move(descriptor), bytes);
    if (mapping->data == nullptr || std::memcmp(mapping->data, &mark, sizeof mark) != 0 ||
        !lock_byte(mapping->descriptor.get(), F_OFD_SETLK, rank, nullptr)) {
      return nullptr;
    }
    return mapping;
  }
};

namespace {

constexpr std::size_t kPage = 4096;
// A page that holds the mark; for each rank a page of its header; for each rank two chunks.
constexpr std::size_t bytes_of(int size) { return kPage + static_cast<std::size_t>(size) * (kPage + 2 * SharedMemory::kChunk); }

void set_text(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
}

std::string get_text(c10d::Store& store, const std::string& key) {
  const std::vector<std::uint8_t> bytes = store.get(key);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::unique_ptr<SharedMemory> SharedMemory::connect(c10d::Store& store, int rank, int size, std::chrono::milliseconds timeout) {
  static_assert(sizeof(Header) <= kPage && std::atomic<std::uint32_t>::is_always_lock_free);
  const std::size_t bytes = bytes_of(size);
  const std::string kOffer = "shared_memory/offer", kVerdict = "shared_memory/verdict";
  const auto answer = [](int other) { return cat("shared_memory/answer/", other); };
  std::unique_ptr<Mapping> mapping;
  std::optional<Mapping::Descriptor> made;  // until all have opened it
  if (rank == 0) {
    const std::uint64_t mark = std::random_device{}() | std::uint64_t{std::random_device{}()} << 32;
    made.emplace(::memfd_create("oumi", MFD_CLOEXEC));
    const bool ready = allowed() && size <= kMostRanks && made->get() >= 0 &&
                       ::ftruncate(made->get(), static_cast<off_t>(bytes)) == 0 &&
                       ::pwrite(made->get(), &mark, sizeof mark, 0) == sizeof mark;
    if (ready) mapping = Mapping::open(cat("/proc/self/fd/", made->get()), bytes, mark, rank);
    set_text(store, kOffer, mapping ? cat(this_machine(), "\t/proc/", ::getpid(), "/fd/", made->get(), "\t", mark) : "");
    bool all = mapping != nullptr;
    for (int other = 1; other < size; ++other) all = get_text(store, answer(other)) == "yes" && all;
    set_text(store, kVerdict, all ? "yes" : "no");
    if (!all) return nullptr;
  } else {
    const std::vector<std::string> offer = split(get_text(store, kOffer), '\t');
    if (allowed() && offer.size() == 3 && offer[0] == this_machine())
      mapping = Mapping::open(offer[1], bytes, std::strtoull(offer[2].c_str(), nullptr, 10), rank);
    set_text(store, answer(rank), mapping ? "yes" : "no");
    if (get_text(store, kVerdict) != "yes") return nullptr;
  }
  std::unique_ptr<SharedMemory> memory(new SharedMemory(std::move(mapping), rank, size, timeout));
  memory->exchange({});  // all have read the verdict: the store may end
  return memory;
}

SharedMemory::SharedMemory(std::unique_ptr<Mapping> mapping, int rank, int size, std::chrono::milliseconds timeout)
    : mapping_(std::move(mapping)), rank_(rank), size_(size), timeout_(timeout), spin_(time_to_spin()) {}

SharedMemory::~SharedMemory() = default;

SharedMemory::Header& SharedMemory::header(int rank) const {
  return *reinterpret_cast<Header*>(mapping_->data + kPage + static_cast<std::size_t>(rank) * kPage);
}

std::byte* SharedMemory::chunk(int rank, std::uint32_t round) const {
  return mapping_->data + kPage + static_cast<std::size_t>(size_) * kPage +
         (2 * static_cast<std::size_t>(rank) + round % 2) * kChunk;
}

bool SharedMemory::has_ended(int rank) const {
  bool is_free = false;
  return lock_byte(mapping_->descriptor.get(), F_OFD_GETLK, rank, &is_free) && is_free;
}

void SharedMemory::exchange(const SharedCall& call) {
  if (failure_) std::rethrow_exception(failure_);
  try {
    meet(call);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

void SharedMemory::meet(const SharedCall& call) {
  Header& own = header(rank_);
  own.calls[round_ % 2] = call;
  own.round.store(round_ + 1);
  if (own.sleepers.load() > 0) futex(own.round, FUTEX_WAKE, INT_MAX, nullptr);
  // A rank writes its chunk again two rounds on, after it has seen here that all have begun the round between, and so are done
  // with this one.
  for (int other = 0; other < size_; ++other) {
    if (other != rank_) wait_for(other, round_ + 1);
  }
  for (int other = 0; other < size_; ++other) {
    const SharedCall& its = header(other).calls[round_ % 2];
    if (its == call) continue;
    throw CallsDiffer(cat("rank ", other, " of the group has ", its.bytes, " bytes in call ", its.number, " of kind ", its.kind,
                          ".", its.dtype, ", this rank ", call.bytes, " in call ", call.number, " of kind ", call.kind, ".",
                          call.dtype));
  }
  ++round_;
}

void SharedMemory::wait_for(int rank, std::uint32_t round) {
  Header& other = header(rank);
  // Counts wrap around.
  const auto there = [&] { return static_cast<std::int32_t>(other.round.load() - round) >= 0; };
  for (int i = 0; i < kPauses; ++i) {
    if (there()) return;
    pause_core();
  }
  const auto began = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - began < spin_) {
    if (there()) return;
    ::sched_yield();
  }
  const timespec look{0, std::chrono::nanoseconds(kLook).count()};
  while (true) {
    other.sleepers.fetch_add(1);
    const std::uint32_t seen = other.round.load();
    if (static_cast<std::int32_t>(seen - round) < 0) futex(other.round, FUTEX_WAIT, seen, &look);
    other.sleepers.fetch_sub(1);
    if (there()) return;
    if (has_ended(rank)) {
      if (there()) return;  // it did its part first
      throw std::runtime_error(cat("rank ", rank, " of the group has ended"));
    }
    if (interrupted_) throw std::runtime_error("interrupted");
    if (std::chrono::steady_clock::now() - began > timeout_)
      throw std::runtime_error(cat("no answer within ", static_cast<double>(timeout_.count()) / 1000.0, " s"));
  }
}

}  // namespace oumi
