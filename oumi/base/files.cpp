#include "oumi/base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string hint_for(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "free some space, or choose a folder on another disk";
    case EROFS: return "the file system is read-only; choose another folder";
    case EACCES:
    case EPERM: return "check the permissions, or choose another folder";
    case EMFILE: return "raise the limit on open files (ulimit -n)";
    case ENOMEM: return "lower the batch size, or raise the memory limit";
    default: return "";
  }
}

[[noreturn]] void throw_unreadable(const fs::path& path) {
  const int error = errno;
  // A good file, and a machine that is short of something or a disk that fails.
  for (const int of_the_machine : {ENOMEM, EMFILE, ENFILE, EIO}) {
    if (error == of_the_machine) throw_file_error(path, "cannot be read");
  }
  throw UserError(path.string(), std::string("cannot be read: ") + std::strerror(error),
                  error == ENOENT ? "check the path; relative paths start at the current folder" : hint_for(error));
}

int open_for_reading(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_unreadable(path);
  struct stat info{};
  if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    ::close(fd);
    errno = EISDIR;
    throw_unreadable(path);
  }
  return fd;
}

}  // namespace

void throw_file_error(const fs::path& path, const std::string& what) {
  const int error = errno;
  throw EnvironmentError(path.string(), what + ": " + std::strerror(error), hint_for(error));
}

std::string read_text_file(const fs::path& path) {
  const Descriptor file(open_for_reading(path));
  std::string text;
  std::vector<char> block(1 << 16);
  while (true) {
    const ssize_t count = ::read(file.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_unreadable(path);
    if (count == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(count));
  }
}

void fsync_path(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0 || ::fsync(file.get()) != 0) throw_file_error(path, "cannot be flushed to disk");
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  const fs::path temporary = path.string() + cat(".tmp-", ::getpid());
  try {
    const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.get() < 0) throw_file_error(path, "cannot be written");
    std::size_t done = 0;
    while (done < contents.size()) {
      const ssize_t count = ::write(file.get(), contents.data() + done, contents.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw_file_error(path, "cannot be written");
      done += static_cast<std::size_t>(count);
    }
    if (::fsync(file.get()) != 0) throw_file_error(path, "cannot be flushed to disk");
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw_file_error(path, "cannot be replaced");
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  const fs::path parent = path.parent_path();
  fsync_path(parent.empty() ? fs::path(".") : parent);
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && fs::is_directory(path)) return;
  errno = error ? error.value() : ENOTDIR;
  throw_file_error(path, "cannot be created as a folder");
}

std::string hash_bytes(const void* data, std::size_t size) {
  const XXH128_hash_t hash = XXH3_128bits(data, size);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

std::string hash_file(const fs::path& path) {
  const MappedFile file(path);
  return hash_bytes(file.data(), file.size());
}

FileLock::FileLock(const fs::path& path) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_file_error(path, "cannot be created");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    char holder[32] = {};
    const ssize_t count = ::pread(descriptor_, holder, sizeof holder - 1, 0);
    ::close(descriptor_);
    if (error != EWOULDBLOCK) {
      errno = error;
      throw_file_error(path, "cannot be locked");
    }
    throw UserError(path.string(), "is locked by another run" + (count > 0 ? " (process " + trim(holder) + ")" : std::string()),
                    "wait for that run, stop it, or choose another training.output_dir");
  }
  const std::string id = cat(::getpid(), "\n");
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, id.data(), id.size(), 0) < 0) {
    const int error = errno;
    ::close(descriptor_);
    errno = error;
    throw_file_error(path, "cannot be written");
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file(open_for_reading(path));
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) throw_unreadable(path);
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) throw_unreadable(path);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (fs::temp_directory_path() / "oumi-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw_file_error(pattern, "cannot be created as a folder");
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace oumi
