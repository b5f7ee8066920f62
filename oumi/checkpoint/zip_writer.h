// A zip archive of uncompressed records, as PyTorch writes them: data aligned to 64 bytes, one folder, no times. No torch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "oumi/checkpoint/output_file.h"

namespace oumi {

class ZipWriter {
 public:
  explicit ZipWriter(OutputFile& file) : file_(file) {}

  void add(const std::string& name, const void* data, std::uint64_t size);
  // The directory at the end; nothing may follow.
  void finish();

 private:
  struct Record {
    std::string name;
    std::uint64_t size, offset;
    std::uint32_t crc;
  };
  OutputFile& file_;
  std::vector<Record> records_;
};

}  // namespace oumi
