#include "oumi/hub/blob_download.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/hub/digest.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

constexpr int kMaxAttempts = 5;  // in a row without a byte of progress

class WaitingLock {
 public:
  explicit WaitingLock(const fs::path& path) {
    make_directories(path.parent_path());
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw_file_error(path, "cannot be opened");
    while (::flock(descriptor_, LOCK_EX) != 0) {
      if (errno != EINTR) throw_file_error(path, "cannot be locked");
    }
  }
  ~WaitingLock() { ::close(descriptor_); }
  WaitingLock(const WaitingLock&) = delete;
  WaitingLock& operator=(const WaitingLock&) = delete;

 private:
  int descriptor_ = -1;
};

// BLOB.incomplete, open for appending.
class PartialFile {
 public:
  explicit PartialFile(fs::path path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw_file_error(path_, "cannot be written");
    size_ = static_cast<std::uint64_t>(::lseek(descriptor_, 0, SEEK_END));
  }
  ~PartialFile() { ::close(descriptor_); }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  std::uint64_t size() const { return size_; }
  void append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_file_error(path_, "cannot be written");
      size_ += static_cast<std::uint64_t>(count);
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void clear() {
    if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0)
      throw_file_error(path_, "cannot be emptied");
    size_ = 0;
  }
  void flush() {
    if (::fsync(descriptor_) != 0) throw_file_error(path_, "cannot be flushed to disk");
  }

 private:
  fs::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

void require_space(const fs::path& folder, std::uint64_t wanted, const std::string& name) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < wanted) {
    throw EnvironmentError(
        folder.string(),
        "no room for " + name + ": expected " + format_bytes(wanted) + " free, got " + format_bytes(space.available),
        "free some space, or set HF_HOME to a folder on another disk");
  }
}

bool is_worth_another_try(int status) { return status == 429 || status >= 500; }

// One request for what is still missing. Returns the status.
int fetch_rest(HttpClient& client, const RemoteFile& file, PartialFile& partial, const DownloadProgress& progress) {
  bool started = false;
  const std::uint64_t offset = partial.size();
  const HttpResponse response = client.download(file.url, offset, [&](const HttpResponse& head, std::string_view bytes) {
    if (!started) {
      started = true;
      const std::string range = head.header("content-range");
      // A server that ignores the range, or answers another one, sends bytes that don't belong behind what is there.
      if (head.status == 200)
        partial.clear();
      else if (!range.starts_with(cat("bytes ", offset, "-")))
        throw TransferFailure("expected bytes from " + std::to_string(offset) + " on, got Content-Range '" + range + "'");
    }
    if (partial.size() + bytes.size() > file.size) throw TransferFailure(cat("expected ", file.size, " bytes, got more"));
    partial.append(bytes);
    if (progress) progress(file, partial.size());
  });
  if (response.status == 416) partial.clear();
  return response.status;
}

void fetch_all(HttpClient& client, const RemoteFile& file, PartialFile& partial, const DownloadProgress& progress,
               const std::function<void(const HttpResponse&)>& refuse) {
  if (partial.size() > file.size) partial.clear();
  for (int failures = 0; partial.size() < file.size;) {
    const std::uint64_t before = partial.size();
    std::string reason;
    try {
      const int status = fetch_rest(client, file, partial, progress);
      if (partial.size() >= file.size) return;
      if (status != 200 && status != 206 && status != 416 && !is_worth_another_try(status)) {
        HttpResponse answer;
        answer.status = status;
        refuse(answer);
      }
      reason = status == 200 || status == 206 ? "the answer ended early" : cat("HTTP status ", status);
    } catch (const TransferFailure& failure) {
      reason = failure.what();
    }
    failures = partial.size() > before ? 1 : failures + 1;
    if (failures >= kMaxAttempts)
      throw TransferFailure(
          cat(file.name, ": ", reason, " (", partial.size(), " of ", file.size, " bytes are kept and resumed next time)"));
    std::this_thread::sleep_for(std::chrono::milliseconds(100 << failures));
  }
}

std::string hash_mismatch(const RemoteFile& file, const fs::path& path) {
  const bool sha256 = file.etag.size() == 64, git = file.etag.size() == 40;
  if (file.etag.find_first_not_of("0123456789abcdef") != std::string::npos || (!sha256 && !git)) return "";
  const std::string got = sha256 ? sha256_file(path) : git_blob_sha1_file(path);
  return got == file.etag ? "" : cat(file.name, ": expected ", sha256 ? "SHA-256 " : "git SHA-1 ", file.etag, ", got ", got);
}

}  // namespace

void download_blob(HttpClient& client, const RemoteFile& file, const fs::path& blob, const fs::path& lock_file,
                   const DownloadProgress& progress) {
  if (fs::exists(blob)) return;
  make_directories(blob.parent_path());
  const WaitingLock lock(lock_file);
  if (fs::exists(blob)) return;  // by the process that was waited for
  const fs::path incomplete = blob.string() + ".incomplete";
  const auto refuse = [&](const HttpResponse& answer) {
    throw UserError(file.url, cat("expected the file, got HTTP status ", answer.status),
                    "the storage behind the Hub refuses it; try again later, or check HF_ENDPOINT");
  };
  bool resumed = fs::exists(incomplete) && fs::file_size(incomplete) > 0;
  while (true) {
    {
      PartialFile partial(incomplete);
      require_space(blob.parent_path(), file.size - std::min(file.size, partial.size()), file.name);
      fetch_all(client, file, partial, progress, refuse);
      partial.flush();
    }
    const std::string mismatch = hash_mismatch(file, incomplete);
    if (mismatch.empty()) break;
    fs::remove(incomplete);
    // What an earlier process left may have been bad; what came whole just now is the network's or the server's fault.
    if (!resumed) throw EnvironmentError(file.url, mismatch, "the file was damaged on its way and is deleted; try again");
    resumed = false;
  }
  std::error_code error;
  fs::rename(incomplete, blob, error);
  if (error) throw EnvironmentError(blob.string(), "cannot be renamed to: " + error.message());
  fsync_path(blob.parent_path());
}

}  // namespace oumi
