#include "oumi/checkpoint/zip_writer.h"

#include <zlib.h>

namespace oumi {

namespace {

constexpr std::uint64_t kMax32 = 0xffffffff;
constexpr std::uint16_t kDate = 33;  // 1980-01-01, the earliest: equal contents give equal files
constexpr std::size_t kAlignment = 64;

class Bytes {
 public:
  template <class... Fields>
  explicit Bytes(Fields... fields) {
    (put(fields), ...);
  }
  void put(std::uint16_t value) { put_low(value, 2); }
  void put(std::uint32_t value) { put_low(value, 4); }
  void put(std::uint64_t value) { put_low(value, 8); }
  void put(const std::string& text) { text_ += text; }
  void put(const Bytes& other) { text_ += other.text_; }
  const std::string& text() const { return text_; }

 private:
  void put_low(std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i) text_ += static_cast<char>((value >> (8 * i)) & 0xff);
  }
  std::string text_;
};

std::uint16_t u16(std::uint64_t value) { return static_cast<std::uint16_t>(value); }
std::uint32_t u32(std::uint64_t value) { return static_cast<std::uint32_t>(value < kMax32 ? value : kMax32); }

std::uint32_t checksum(const void* data, std::uint64_t size) {
  return static_cast<std::uint32_t>(::crc32_z(0, static_cast<const Bytef*>(data), size));
}

// "needs version 4.5" for the 64-bit fields, "UTF-8 names", "stored".
constexpr std::uint16_t kPlainVersion = 20, kLargeVersion = 45, kUtf8 = 0x0800, kStored = 0;

}  // namespace

void ZipWriter::add(const std::string& name, const void* data, std::uint64_t size) {
  const Record record{name, size, file_.size(), checksum(data, size)};
  const bool large = size >= kMax32;
  Bytes extra;
  if (large) extra = Bytes(u16(1), u16(16), size, size);
  // A filler field brings the data to a multiple of 64, so that readers may map tensors.
  const std::uint64_t before = record.offset + 30 + name.size() + extra.text().size() + 4;
  const std::string filler((kAlignment - before % kAlignment) % kAlignment, 'Z');
  extra.put(Bytes(u16(0x4246), u16(filler.size()), filler));
  const Bytes header(std::uint32_t{0x04034b50}, large ? kLargeVersion : kPlainVersion, kUtf8, kStored, u16(0), kDate,
                     record.crc, large ? std::uint32_t{0xffffffff} : u32(size), large ? std::uint32_t{0xffffffff} : u32(size),
                     u16(name.size()), u16(extra.text().size()), name, extra);
  file_.write(header.text().data(), header.text().size());
  file_.write(data, size);
  records_.push_back(record);
}

void ZipWriter::finish() {
  const std::uint64_t begin = file_.size();
  for (const Record& record : records_) {
    const bool large_size = record.size >= kMax32, large_offset = record.offset >= kMax32;
    Bytes fields;
    if (large_size) fields.put(Bytes(record.size, record.size));
    if (large_offset) fields.put(record.offset);
    Bytes extra;
    if (!fields.text().empty()) extra = Bytes(u16(1), u16(fields.text().size()), fields);
    const std::uint16_t version = fields.text().empty() ? kPlainVersion : kLargeVersion;
    const Bytes entry(std::uint32_t{0x02014b50}, version, version, kUtf8, kStored, u16(0), kDate, record.crc, u32(record.size),
                      u32(record.size), u16(record.name.size()), u16(extra.text().size()), u16(0), u16(0), u16(0),
                      std::uint32_t{0}, u32(record.offset), record.name, extra);
    file_.write(entry.text().data(), entry.text().size());
  }
  const std::uint64_t end = file_.size(), count = records_.size();
  const bool large = begin >= kMax32 || end - begin >= kMax32 || count >= 0xffff;
  Bytes tail;
  if (large) {
    tail.put(Bytes(std::uint32_t{0x06064b50}, std::uint64_t{44}, kLargeVersion, kLargeVersion, std::uint32_t{0},
                   std::uint32_t{0}, count, count, end - begin, begin));
    tail.put(Bytes(std::uint32_t{0x07064b50}, std::uint32_t{0}, end, std::uint32_t{1}));
  }
  const std::uint16_t short_count = large && count >= 0xffff ? std::uint16_t{0xffff} : u16(count);
  tail.put(Bytes(std::uint32_t{0x06054b50}, u16(0), u16(0), short_count, short_count, u32(end - begin), u32(begin), u16(0)));
  file_.write(tail.text().data(), tail.text().size());
}

}  // namespace oumi
