// A file that grows by whole records: each append lands completely or not at all.
#pragma once

#include <filesystem>
#include <string_view>

namespace oumi {

class AppendFile {
 public:
  enum class Existing {
    kKeep,          // append after what is there
    kDropTornLine,  // the same, after removing what follows the last newline
    kRefuse,        // the file must be new
  };

  // Throws EnvironmentError naming the path.
  AppendFile(std::filesystem::path path, Existing existing);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // False when the record could not be written (disk full): the file is cut back to what it was, one warning is logged for
  // the first failure of a row of failures, and the next append tries again.
  bool append(std::string_view record) noexcept;

  // Asks the disk to keep what was written; failures are as harmless here as in append().
  void sync() noexcept;

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  bool failing_ = false;
};

}  // namespace oumi
