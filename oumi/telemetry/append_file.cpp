#include "oumi/telemetry/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/telemetry/logging.h"

namespace oumi {

namespace {

// The offset after the last newline of the file.
off_t end_of_last_line(int descriptor, off_t size) {
  std::vector<char> block(1 << 16);
  while (size > 0) {
    const off_t begin = size > static_cast<off_t>(block.size()) ? size - static_cast<off_t>(block.size()) : 0;
    const ssize_t count = ::pread(descriptor, block.data(), static_cast<std::size_t>(size - begin), begin);
    if (count <= 0) return size;
    for (ssize_t i = count - 1; i >= 0; --i) {
      if (block[static_cast<std::size_t>(i)] == '\n') return begin + i + 1;
    }
    size = begin;
  }
  return 0;
}

}  // namespace

AppendFile::AppendFile(std::filesystem::path path, Existing existing) : path_(std::move(path)) {
  const int refuse = existing == Existing::kRefuse ? O_EXCL : 0;
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | refuse, 0644);
  if (descriptor_ < 0) {
    const int error = errno;
    throw EnvironmentError(path_.string(), cat("cannot be opened for writing: ", std::strerror(error)),
                           error == EEXIST ? "" : "check the permissions and the space left, or choose another output_dir");
  }
  if (existing != Existing::kDropTornLine) return;
  struct stat info{};
  if (::fstat(descriptor_, &info) != 0 || !S_ISREG(info.st_mode)) return;
  const off_t whole = end_of_last_line(descriptor_, info.st_size);
  // Failing to cut is harmless here: the next line would be glued to the torn one, so a newline parts them instead.
  if (whole != info.st_size && ::ftruncate(descriptor_, whole) != 0) append("\n");
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool AppendFile::append(std::string_view record) noexcept {
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  std::size_t written = 0;
  int error = 0;
  while (written < record.size()) {
    const ssize_t count = ::write(descriptor_, record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      error = count < 0 ? errno : ENOSPC;
      break;
    }
    written += static_cast<std::size_t>(count);
  }
  if (error == 0) {
    failing_ = false;
    return true;
  }
  // Half a record would make every later one unreadable.
  if (written > 0 && before >= 0 && ::ftruncate(descriptor_, before) != 0) error = errno;
  if (!failing_) {
    failing_ = true;
    try {
      log_warning(cat("[", path_.string(), "] cannot be written: ", std::strerror(error),
                      "; training goes on and writing is tried again at the next record"));
    } catch (...) {  // out of memory for the message
    }
  }
  return false;
}

void AppendFile::sync() noexcept { static_cast<void>(::fdatasync(descriptor_)); }

}  // namespace oumi
