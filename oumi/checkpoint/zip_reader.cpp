#include "oumi/checkpoint/zip_reader.h"

#include <zip.h>

#include <memory>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

constexpr const char* kHint = "the file is damaged or incomplete; fetch or save it again";

zip_t* handle(void* archive) { return static_cast<zip_t*>(archive); }

}  // namespace

ZipReader::ZipReader(const std::filesystem::path& path) : path_(path) {
  int code = 0;
  archive_ = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (archive_ == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw UserError(path.string(), "not a whole zip archive: " + reason, kHint);
  }
  try {
    const std::string wanted = "data.pkl";
    const zip_int64_t count = zip_get_num_entries(handle(archive_), 0);
    int found = 0;
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* raw = zip_get_name(handle(archive_), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
      const std::string name = raw == nullptr ? "" : raw;
      // PyTorch puts all records into one folder, whose name is the file's at the time of saving.
      if (!name.ends_with("/" + wanted) || name.find('/') != name.size() - wanted.size() - 1) continue;
      prefix_ = name.substr(0, name.size() - wanted.size());
      ++found;
    }
    if (found != 1)
      throw UserError(path.string(), cat("not a PyTorch file: expected one data.pkl in the archive, got ", found),
                      "is it a state dict saved with torch.save?");
  } catch (...) {
    zip_discard(handle(archive_));
    throw;
  }
}

ZipReader::~ZipReader() { zip_discard(handle(archive_)); }

std::optional<std::uint64_t> ZipReader::size(const std::string& name) const {
  zip_stat_t info;
  zip_stat_init(&info);
  const std::string full = prefix_ + name;
  if (zip_stat(handle(archive_), full.c_str(), ZIP_FL_ENC_RAW, &info) != 0) return std::nullopt;
  constexpr std::uint64_t kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  std::error_code error;
  const std::uint64_t file_size = std::filesystem::file_size(path_, error);
  // Deflate shrinks to 1/1032 at best.
  const bool possible = (info.valid & kNeeded) == kNeeded && info.comp_size <= file_size &&
                        (info.comp_method == ZIP_CM_STORE ? info.size == info.comp_size : info.size / 1032 <= info.comp_size);
  if (!possible)
    throw UserError(path_.string(), "record '" + full + cat("': ", info.size, " bytes are not in a file of ", file_size),
                    kHint);
  return info.size;
}

void ZipReader::read(const std::string& name, void* data, std::uint64_t size) const {
  const std::string full = prefix_ + name;
  const auto fail = [&](const std::string& reason) {
    throw UserError(path_.string(), "record '" + full + "': " + reason, kHint);
  };
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(zip_fopen(handle(archive_), full.c_str(), ZIP_FL_ENC_RAW),
                                                               zip_fclose);
  if (file == nullptr) fail(zip_strerror(handle(archive_)));
  auto* bytes = static_cast<char*>(data);
  std::uint64_t done = 0;
  char rest = 0;
  while (true) {  // the read behind the last byte is the one that compares checksums
    const bool at_end = done == size;
    const zip_int64_t count = zip_fread(file.get(), at_end ? &rest : bytes + done, at_end ? 1 : size - done);
    if (count < 0) fail(zip_file_strerror(file.get()));
    if (count == 0) break;
    if (at_end) fail(cat("expected ", size, " bytes, got more"));
    done += static_cast<std::uint64_t>(count);
  }
  if (done != size) fail(cat("expected ", size, " bytes, got ", done));
}

std::string ZipReader::read_text(const std::string& name) const {
  const auto length = size(name);
  if (!length) throw UserError(path_.string(), "record '" + prefix_ + name + "' is missing", kHint);
  std::string text(*length, '\0');
  read(name, text.data(), text.size());
  return text;
}

}  // namespace oumi
