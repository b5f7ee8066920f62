// Megatron-Core's indexed datasets (megatron/core/datasets/indexed_dataset.py): PREFIX.bin holds the tokens of all sequences
// one after another, PREFIX.idx their lengths, places and which of them make up a document. All numbers little-endian:
//   "MMIDIDX\0\0", version 1 as uint64, dtype code as uint8, S sequences and D + 1 document bounds as uint64,
//   S lengths in tokens as int32, S offsets into .bin in bytes as int64, D + 1 bounds in sequences as int64, the first of them
//   0.
// No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace oumi {

// Megatron's codes. Token ids may be of any of them; those of floats have to be whole.
enum class MegatronDtype : std::uint8_t { kUint8 = 1, kInt8, kInt16, kInt32, kInt64, kFloat64, kFloat32, kUint16 };

// What Megatron's preprocess_data.py takes for a vocabulary: uint16 below 65500 tokens, else int32.
MegatronDtype megatron_dtype_for(std::int64_t vocab_size);

struct MegatronFiles {
  std::filesystem::path idx, bin;
};

// The two files of a prefix, which may carry either's extension.
MegatronFiles megatron_files(const std::filesystem::path& prefix);

// A memory-mapped pair of files. Opening it reads the whole .idx once and none of the .bin.
class MegatronIndexed {
 public:
  // Throws UserError naming the file for one that is missing, cut, garbled or multimodal, and for a pair that doesn't belong
  // together: every length, offset and bound is checked against the others and against the size of .bin.
  explicit MegatronIndexed(const std::filesystem::path& prefix);
  ~MegatronIndexed();
  MegatronIndexed(const MegatronIndexed&) = delete;
  MegatronIndexed& operator=(const MegatronIndexed&) = delete;

  std::int64_t documents() const noexcept;
  std::int64_t tokens() const noexcept;
  // The tokens of document d, of all its sequences, are [begin_of(d), begin_of(d + 1)).
  std::int64_t begin_of(std::int64_t document) const;
  // Tokens [begin, end). Throws UserError naming the file for one that is no token id.
  std::vector<std::int32_t> read(std::int64_t begin, std::int64_t end) const;
  const MegatronFiles& files() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes a pair of files. Both are there when close() is done, or neither: until then they have temporary names.
class MegatronIndexedWriter {
 public:
  // Folders of `prefix` are created. Throws EnvironmentError.
  MegatronIndexedWriter(const std::filesystem::path& prefix, MegatronDtype dtype);
  ~MegatronIndexedWriter();
  // One document of one sequence, or of none when it is empty. Throws UserError for an id that `dtype` doesn't hold,
  // EnvironmentError when the disk is full.
  void add_document(std::span<const std::int32_t> ids);
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oumi
