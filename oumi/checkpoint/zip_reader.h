// Reads single records of a zip archive into memory that the caller gives. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace oumi {

class ZipReader {
 public:
  // Throws UserError when it is no zip archive.
  explicit ZipReader(const std::filesystem::path& path);
  ~ZipReader();
  ZipReader(const ZipReader&) = delete;
  ZipReader& operator=(const ZipReader&) = delete;

  // The folder inside that holds data.pkl, with its '/'. Throws UserError when there is none, or more than one.
  const std::string& prefix() const noexcept { return prefix_; }

  // The size of prefix + name. A size that the archive cannot hold is a UserError, so that nobody allocates it.
  std::optional<std::uint64_t> size(const std::string& name) const;

  // Reads exactly `size` bytes and checks them against the archive's checksum. Throws UserError.
  void read(const std::string& name, void* data, std::uint64_t size) const;
  std::string read_text(const std::string& name) const;

 private:
  std::filesystem::path path_;
  void* archive_ = nullptr;
  std::string prefix_;
};

}  // namespace oumi
