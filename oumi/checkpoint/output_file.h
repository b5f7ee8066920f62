// A file that is written front to back, hashed on the way and either whole or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace oumi {

// What a manifest says about a file.
struct FileDigest {
  std::uint64_t size = 0;
  std::string xxh3_128;  // 32 hex digits

  bool operator==(const FileDigest&) const = default;
};

// Writes to a temporary name beside `path`; commit() makes it durable and gives it its name, atomically replacing an older
// file. Without commit() nothing stays behind. The hash is of the bytes as they were given, so that a later comparison with
// the disk also finds what was damaged on its way there.
// Every failure is an EnvironmentError that names `path` and the reason (disk full, read-only, ...).
class OutputFile {
 public:
  // `expected_size` is reserved on the disk at once where the file system can: a full disk shows before anything is written.
  explicit OutputFile(std::filesystem::path path, std::uint64_t expected_size = 0);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size);
  // Writes over the first bytes of the file, which write() has written. The digest then takes another reading of the file.
  void rewrite_start(const void* data, std::size_t size);
  std::uint64_t size() const noexcept { return size_; }

  // fsync, rename, fsync of the folder; rename alone under a DeferredFlush.
  FileDigest commit();

 private:
  void discard() noexcept;
  void hash_again();

  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0, written_back_ = 0;
  bool rewritten_ = false;
  void* hash_state_ = nullptr;  // XXH3_state_t
};

// While one exists, what this thread commits through OutputFile gets its name without being flushed to the disk: the bytes are
// the system's, and flush_files, on any thread, makes them durable later. One at a time on a thread.
class DeferredFlush {
 public:
  DeferredFlush();
  ~DeferredFlush();
  DeferredFlush(const DeferredFlush&) = delete;
  DeferredFlush& operator=(const DeferredFlush&) = delete;

  // The files that are still to be flushed.
  std::vector<std::filesystem::path> take();
};

// Throws EnvironmentError naming the file that the disk refuses.
void flush_files(const std::vector<std::filesystem::path>& files);

// OutputFile of one piece.
FileDigest write_output_file(const std::filesystem::path& path, const std::string& contents);

// The digest of a file on disk. Throws UserError when it cannot be read.
FileDigest digest_file(const std::filesystem::path& path);

}  // namespace oumi
