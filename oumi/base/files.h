// File access with errors that name the path, and writes that are whole or absent.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace oumi {

// The whole file. Throws UserError when it is missing or not readable, EnvironmentError when the machine is short of memory or
// descriptors or its disk fails.
std::string read_text_file(const std::filesystem::path& path);

// Writes to a temporary name beside `path`, fsyncs, renames over `path`, fsyncs the folder. Throws EnvironmentError
// (disk full, read-only, ...) and leaves the old file as it was.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Creates the folder and its parents. Throws EnvironmentError naming the path and the reason.
void make_directories(const std::filesystem::path& path);

// Throws EnvironmentError "<path>: <what>: <reason of errno>" with a hint that fits the reason.
[[noreturn]] void throw_file_error(const std::filesystem::path& path, const std::string& what);

// fsync of a file or folder by path. Throws EnvironmentError.
void fsync_path(const std::filesystem::path& path);

// XXH3-128 of a file's bytes as 32 hex digits. Throws as read_text_file does.
std::string hash_file(const std::filesystem::path& path);
std::string hash_bytes(const void* data, std::size_t size);

// An exclusive flock on `path`, created when absent; the kernel drops it with the process, kill -9 included.
class FileLock {
 public:
  // Throws UserError saying who holds it (the holder's process id is in the file) when it is taken.
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Read-only memory map of a whole file. An empty file maps to size 0. Throws as read_text_file does.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A fresh folder below the system's temporary folder, removed with its contents at the end of the scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace oumi
