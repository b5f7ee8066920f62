#include "oumi/checkpoint/output_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>
#include <set>
#include <utility>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

// Large enough for full disk speed, small enough that a hash of the piece runs while it is in the cache.
constexpr std::size_t kPiece = std::size_t{4} << 20;
constexpr std::size_t kRead = std::size_t{256} << 10;
// The kernel is told to start writing back in such steps, so that the final fsync has little left to do.
constexpr std::uint64_t kWriteBack = std::uint64_t{64} << 20;

// What a DeferredFlush of this thread collects.
thread_local std::vector<fs::path>* unflushed = nullptr;

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

}  // namespace

OutputFile::OutputFile(fs::path path, std::uint64_t expected_size) : path_(std::move(path)) {
  static std::atomic<unsigned> counter{0};
  temporary_ = path_.string() + cat(".tmp-", ::getpid(), "-", counter++);
  hash_state_ = XXH3_createState();
  if (hash_state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(hash_state_));
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  try {
    if (descriptor_ < 0) throw_file_error(path_, "cannot be written");
    if (expected_size >= kPiece) {
      if (::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(expected_size)) != 0 &&
          (errno == ENOSPC || errno == EDQUOT)) {
        throw_file_error(path_, "cannot be written (" + format_bytes(expected_size) + " needed)");
      }
    }
  } catch (...) {
    discard();
    throw;
  }
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() noexcept {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
    descriptor_ = -1;
  }
  if (hash_state_ != nullptr) XXH3_freeState(static_cast<XXH3_state_t*>(hash_state_));
  hash_state_ = nullptr;
}

void OutputFile::write(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(descriptor_, bytes, std::min(size, kPiece));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_file_error(path_, "cannot be written");
    XXH3_128bits_update(static_cast<XXH3_state_t*>(hash_state_), bytes, static_cast<std::size_t>(count));
    bytes += count;
    size -= static_cast<std::size_t>(count);
    size_ += static_cast<std::uint64_t>(count);
    if (unflushed == nullptr && size_ - written_back_ >= kWriteBack) {
      ::sync_file_range(descriptor_, static_cast<off_t>(written_back_), static_cast<off_t>(size_ - written_back_),
                        SYNC_FILE_RANGE_WRITE);
      written_back_ = size_;
    }
  }
}

void OutputFile::rewrite_start(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  for (std::size_t done = 0; done < size;) {
    const ssize_t count = ::pwrite(descriptor_, bytes + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_file_error(path_, "cannot be written");
    done += static_cast<std::size_t>(count);
  }
  rewritten_ = true;
}

// Through a small buffer: a map's pages would count as this process's memory.
void OutputFile::hash_again() {
  auto* state = static_cast<XXH3_state_t*>(hash_state_);
  XXH3_128bits_reset(state);
  std::vector<char> piece(kRead);
  for (std::uint64_t done = 0; done < size_;) {
    const ssize_t count = ::pread(descriptor_, piece.data(), piece.size(), static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw_file_error(path_, "cannot be read back");
    XXH3_128bits_update(state, piece.data(), static_cast<std::size_t>(count));
    done += static_cast<std::uint64_t>(count);
  }
}

DeferredFlush::DeferredFlush() { unflushed = new std::vector<fs::path>; }
DeferredFlush::~DeferredFlush() { delete std::exchange(unflushed, nullptr); }
std::vector<fs::path> DeferredFlush::take() { return std::exchange(*unflushed, {}); }

void flush_files(const std::vector<fs::path>& files) {
  for (const fs::path& file : files) fsync_path(file);
  std::set<fs::path> folders;
  for (const fs::path& file : files) folders.insert(parent_of(file));
  for (const fs::path& folder : folders) fsync_path(folder);
}

FileDigest OutputFile::commit() {
  if (unflushed == nullptr && ::fsync(descriptor_) != 0) throw_file_error(path_, "cannot be flushed to disk");
  if (rewritten_) hash_again();
  // close() reports what a network file system could not store.
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    errno = error;
    throw_file_error(path_, "cannot be replaced");
  }
  if (unflushed != nullptr) {
    unflushed->push_back(path_);
  } else {
    fsync_path(parent_of(path_));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(static_cast<XXH3_state_t*>(hash_state_));
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return {size_, text};
}

FileDigest write_output_file(const fs::path& path, const std::string& contents) {
  OutputFile file(path, contents.size());
  file.write(contents.data(), contents.size());
  return file.commit();
}

FileDigest digest_file(const fs::path& path) {
  const MappedFile file(path);
  return {file.size(), hash_bytes(file.data(), file.size())};
}

}  // namespace oumi
