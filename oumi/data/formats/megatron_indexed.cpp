#include "oumi/data/formats/megatron_indexed.h"

#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "the files are read and written as they lie in memory");

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kHeaderBytes = sizeof kMagic + sizeof(std::uint64_t) + 1 + 2 * sizeof(std::uint64_t);
constexpr std::size_t kSequenceBytes = sizeof(std::int32_t) + sizeof(std::int64_t);

std::size_t size_of(MegatronDtype dtype) {
  switch (dtype) {
    case MegatronDtype::kUint8:
    case MegatronDtype::kInt8: return 1;
    case MegatronDtype::kInt16:
    case MegatronDtype::kUint16: return 2;
    case MegatronDtype::kInt32:
    case MegatronDtype::kFloat32: return 4;
    case MegatronDtype::kInt64:
    case MegatronDtype::kFloat64: return 8;
  }
  throw InternalError("unknown dtype of a Megatron dataset");
}

// Calls visit with a zero of the dtype's type.
template <class Visit>
auto with_type(MegatronDtype dtype, Visit&& visit) {
  switch (dtype) {
    case MegatronDtype::kUint8: return visit(std::uint8_t{});
    case MegatronDtype::kInt8: return visit(std::int8_t{});
    case MegatronDtype::kInt16: return visit(std::int16_t{});
    case MegatronDtype::kInt32: return visit(std::int32_t{});
    case MegatronDtype::kInt64: return visit(std::int64_t{});
    case MegatronDtype::kFloat64: return visit(double{});
    case MegatronDtype::kFloat32: return visit(float{});
    case MegatronDtype::kUint16: return visit(std::uint16_t{});
  }
  throw InternalError("unknown dtype of a Megatron dataset");
}

// The arrays lie behind a header of 34 bytes, aligned to nothing.
template <class Value>
Value at(const std::byte* bytes, std::size_t index = 0) {
  Value value;
  std::memcpy(&value, bytes + index * sizeof value, sizeof value);
  return value;
}

template <class Value>
bool is_id(Value value) {
  if constexpr (std::is_floating_point_v<Value>) {
    return value >= 0 && value <= static_cast<Value>(std::numeric_limits<std::int32_t>::max()) && value == std::floor(value);
  } else {
    return value >= 0 && static_cast<std::uint64_t>(value) <= std::numeric_limits<std::int32_t>::max();
  }
}

}  // namespace

MegatronDtype megatron_dtype_for(std::int64_t vocab_size) {
  return vocab_size < 65500 ? MegatronDtype::kUint16 : MegatronDtype::kInt32;
}

MegatronFiles megatron_files(const fs::path& prefix) {
  std::string stem = prefix.string();
  if (stem.ends_with(".idx") || stem.ends_with(".bin")) stem.resize(stem.size() - 4);
  return {stem + ".idx", stem + ".bin"};
}

struct MegatronIndexed::Impl {
  explicit Impl(const fs::path& prefix) : files(megatron_files(prefix)), idx(files.idx), bin(files.bin) { check(); }

  void check();
  void check_sequences() const;
  void check_documents() const;
  [[noreturn]] void garbled(const std::string& what) const {
    throw UserError(files.idx.string(), what, "the file is damaged, or not an index of Megatron's; write it again");
  }

  MegatronFiles files;
  MappedFile idx, bin;
  MegatronDtype dtype = MegatronDtype::kInt32;
  std::size_t item = 0, sequences = 0, bounds = 0;
  const std::byte *lengths = nullptr, *offsets = nullptr, *documents = nullptr;
};

void MegatronIndexed::Impl::check() {
  const std::size_t size = idx.size();
  if (size < kHeaderBytes) garbled(cat("expected at least the ", kHeaderBytes, " bytes of an index's header, got ", size));
  const std::byte* bytes = idx.data();
  if (std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
    garbled("expected the index of a Megatron dataset (MMIDIDX), got another file");
  bytes += sizeof kMagic;
  if (const auto version = at<std::uint64_t>(bytes); version != kVersion)
    garbled(cat("expected version ", kVersion, ", got ", version));
  const auto code = at<std::uint8_t>(bytes + 8);
  if (code < 1 || code > 8) garbled(cat("expected a dtype's code from 1 to 8, got ", static_cast<int>(code)));
  dtype = static_cast<MegatronDtype>(code);
  item = size_of(dtype);
  sequences = at<std::uint64_t>(bytes + 9);
  bounds = at<std::uint64_t>(bytes + 17);
  // In this order, no sum overflows.
  const std::size_t room = size - kHeaderBytes;
  const bool fits = sequences <= room / kSequenceBytes && bounds <= (room - sequences * kSequenceBytes) / sizeof(std::int64_t);
  const std::size_t rest = fits ? room - sequences * kSequenceBytes - bounds * sizeof(std::int64_t) : 0;
  if (fits && rest == sequences && rest > 0) {
    throw UserError(files.idx.string(), "expected text alone, got a multimodal dataset (a mode for each sequence)",
                    "images are not built");
  }
  if (!fits || rest != 0) {
    garbled(cat("expected the tables of ", sequences, " sequences and ", bounds, " document bounds, got a file of ", size,
                " bytes: it is cut, or longer than that"));
  }
  lengths = idx.data() + kHeaderBytes;
  offsets = lengths + sequences * sizeof(std::int32_t);
  documents = offsets + sequences * sizeof(std::int64_t);
  check_sequences();
  check_documents();
}

void MegatronIndexed::Impl::check_sequences() const {
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < sequences; ++i) {
    const auto length = at<std::int32_t>(lengths, i);
    const auto offset = at<std::int64_t>(offsets, i);
    if (length < 0) garbled(cat("sequence ", i, ": expected a length, got ", length));
    if (static_cast<std::uint64_t>(offset) != expected)
      garbled(cat("sequence ", i, ": expected offset ", expected, " as the lengths before it say, got ", offset));
    expected += static_cast<std::uint64_t>(length) * item;
  }
  if (expected != bin.size()) {
    throw UserError(files.bin.string(),
                    cat("expected ", expected, " bytes as ", files.idx.filename().string(), " says, got ", bin.size()),
                    "the file is cut, or its index is another dataset's; write both again");
  }
}

void MegatronIndexed::Impl::check_documents() const {
  if (bounds == 0) garbled("expected the bounds of documents, got none");
  std::int64_t before = 0;
  for (std::size_t i = 0; i < bounds; ++i) {
    const auto bound = at<std::int64_t>(documents, i);
    const bool first = i == 0;
    if (first ? bound != 0 : bound < before)
      garbled(cat("document ", i, ": expected to begin at sequence ", first ? "0" : cat(before, " or later"), ", got ", bound));
    before = bound;
  }
  if (static_cast<std::size_t>(before) != sequences)
    garbled(cat("expected documents of all ", sequences, " sequences, got ", before));
}

MegatronIndexed::MegatronIndexed(const fs::path& prefix) : impl_(std::make_unique<Impl>(prefix)) {}
MegatronIndexed::~MegatronIndexed() = default;

std::int64_t MegatronIndexed::documents() const noexcept { return static_cast<std::int64_t>(impl_->bounds) - 1; }
std::int64_t MegatronIndexed::tokens() const noexcept { return static_cast<std::int64_t>(impl_->bin.size() / impl_->item); }
const MegatronFiles& MegatronIndexed::files() const noexcept { return impl_->files; }

std::int64_t MegatronIndexed::begin_of(std::int64_t document) const {
  const auto sequence = static_cast<std::size_t>(at<std::int64_t>(impl_->documents, static_cast<std::size_t>(document)));
  if (sequence == impl_->sequences) return tokens();
  return at<std::int64_t>(impl_->offsets, sequence) / static_cast<std::int64_t>(impl_->item);
}

std::vector<std::int32_t> MegatronIndexed::read(std::int64_t begin, std::int64_t end) const {
  return with_type(impl_->dtype, [&]<class Value>(Value) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(end - begin));
    const std::byte* bytes = impl_->bin.data() + static_cast<std::size_t>(begin) * sizeof(Value);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto value = at<Value>(bytes, i);
      if (!is_id(value))
        throw UserError(impl_->files.bin.string(),
                        cat("token ", begin + static_cast<std::int64_t>(i), ": expected a token id, got ", +value));
      ids[i] = static_cast<std::int32_t>(value);
    }
    return ids;
  });
}

struct MegatronIndexedWriter::Impl {
  MegatronFiles files, temporary;
  MegatronDtype dtype;
  std::ofstream bin, idx;
  std::vector<std::int32_t> lengths;
  std::vector<std::int64_t> bounds = {0};

  void write(std::ofstream& file, const fs::path& path, const void* data, std::size_t size) {
    if (size > 0 && !file.write(static_cast<const char*>(data), static_cast<std::streamsize>(size)))
      throw_file_error(path, "cannot be written");
  }
  template <class Value>
  void write(std::ofstream& file, const fs::path& path, const std::vector<Value>& values) {
    write(file, path, values.data(), values.size() * sizeof(Value));
  }
  void finish(std::ofstream& file, const fs::path& path, const fs::path& written) {
    file.close();
    if (!file) throw_file_error(path, "cannot be written");
    fsync_path(written);
  }
};

MegatronIndexedWriter::MegatronIndexedWriter(const fs::path& prefix, MegatronDtype dtype) : impl_(std::make_unique<Impl>()) {
  Impl& to = *impl_;
  to.files = megatron_files(prefix);
  to.dtype = dtype;
  if (const fs::path parent = to.files.idx.parent_path(); !parent.empty()) make_directories(parent);
  const std::string suffix = cat(".tmp-", getpid());
  to.temporary = {to.files.idx.string() + suffix, to.files.bin.string() + suffix};
  to.bin.open(to.temporary.bin, std::ios::binary);
  if (!to.bin) throw_file_error(to.files.bin, "cannot be written");
}

MegatronIndexedWriter::~MegatronIndexedWriter() {
  if (impl_ == nullptr) return;
  std::error_code ignored;
  for (const fs::path& path : {impl_->temporary.idx, impl_->temporary.bin}) fs::remove(path, ignored);
}

void MegatronIndexedWriter::add_document(std::span<const std::int32_t> ids) {
  Impl& to = *impl_;
  with_type(to.dtype, [&]<class Value>(Value) {
    std::vector<Value> values(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      values[i] = static_cast<Value>(ids[i]);
      if (ids[i] < 0 || static_cast<double>(values[i]) != static_cast<double>(ids[i])) {
        throw UserError(to.files.bin.string(), cat("document ", to.bounds.size() - 1, ", token ", i,
                                                   ": expected an id that the file's dtype holds, got ", ids[i]));
      }
    }
    to.write(to.bin, to.files.bin, values);
  });
  if (!ids.empty()) to.lengths.push_back(static_cast<std::int32_t>(ids.size()));
  to.bounds.push_back(static_cast<std::int64_t>(to.lengths.size()));
}

void MegatronIndexedWriter::close() {
  Impl& to = *impl_;
  to.finish(to.bin, to.files.bin, to.temporary.bin);
  to.idx.open(to.temporary.idx, std::ios::binary);
  if (!to.idx) throw_file_error(to.files.idx, "cannot be written");
  const std::uint64_t sequences = to.lengths.size(), bounds = to.bounds.size();
  const auto code = static_cast<std::uint8_t>(to.dtype);
  to.write(to.idx, to.files.idx, kMagic, sizeof kMagic);
  to.write(to.idx, to.files.idx, &kVersion, sizeof kVersion);
  to.write(to.idx, to.files.idx, &code, sizeof code);
  to.write(to.idx, to.files.idx, &sequences, sizeof sequences);
  to.write(to.idx, to.files.idx, &bounds, sizeof bounds);
  to.write(to.idx, to.files.idx, to.lengths);
  std::int64_t offset = 0;
  for (const std::int32_t length : to.lengths) {
    to.write(to.idx, to.files.idx, &offset, sizeof offset);
    offset += length * static_cast<std::int64_t>(size_of(to.dtype));
  }
  to.write(to.idx, to.files.idx, to.bounds);
  to.finish(to.idx, to.files.idx, to.temporary.idx);
  // The index last: without one there is no dataset, and an older one fits no other .bin.
  for (const auto& [from, name] : {std::pair(to.temporary.bin, to.files.bin), std::pair(to.temporary.idx, to.files.idx)}) {
    if (::rename(from.c_str(), name.c_str()) != 0) throw_file_error(name, "cannot be replaced");
  }
  const fs::path parent = to.files.idx.parent_path();
  fsync_path(parent.empty() ? fs::path(".") : parent);
}

}  // namespace oumi
