#include "oumi/data/formats/idx.h"

#include <ATen/ops/empty.h>
#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>

#include "oumi/base/files.h"
#include "oumi/data/split.h"
#include "oumi/data/tensor_dataset.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDebianFolder = "/usr/share/datasets/fashion-mnist";
// deflate cannot do better than this, so a header that claims more lies and nothing is allocated for it.
constexpr std::uint64_t kMaxDeflateRatio = 1032;

// Reads gzip files and plain ones alike.
class GzipFile {
 public:
  explicit GzipFile(const fs::path& path) : path_(path.string()), file_(gzopen(path.c_str(), "rb")) {
    if (file_ == nullptr) throw UserError(path_, "cannot be opened", "check that the file is there and readable");
    gzbuffer(file_, 1 << 18);
  }
  ~GzipFile() { gzclose(file_); }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  bool is_compressed() { return gzdirect(file_) == 0; }

  // The number of bytes read, fewer than `size` at the end of the file. Throws UserError on broken compression.
  std::uint64_t read(void* data, std::uint64_t size) {
    std::uint64_t done = 0;
    while (done < size) {
      const auto part = static_cast<unsigned>(std::min<std::uint64_t>(size - done, 1u << 30));
      const int got = gzread(file_, static_cast<char*>(data) + done, part);
      int code = Z_OK;
      const char* reason = gzerror(file_, &code);
      if (got < 0 || code == Z_BUF_ERROR) {
        throw UserError(path_,
                        cat("broken gzip data after ", done + std::max(got, 0),
                            " bytes: ", code == Z_BUF_ERROR ? "the file is truncated" : reason),
                        "download it again");
      }
      if (got == 0) break;
      done += static_cast<std::uint64_t>(got);
    }
    return done;
  }

 private:
  std::string path_;
  gzFile file_;
};

// The array of bytes behind the header of a gzip file whose whole content is `header` and the array; nothing if the file is
// anything but one sound member of that size. Twice as fast as zlib, which starting a run on images otherwise waits for, but
// unable to say what is wrong: whoever gets nothing reads the file by GzipFile.
std::optional<Tensor> inflate_bytes(const fs::path& path, at::IntArrayRef sizes, std::size_t header) {
  const MappedFile compressed(path);
  const std::int64_t count = c10::multiply_integers(sizes), offset = static_cast<std::int64_t>(header);
  Tensor content = at::empty({offset + count}, at::TensorOptions(c10::kByte));
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decompressor(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  std::size_t used = 0;
  // Without a place for the size that came out, it has to be the size expected.
  if (decompressor == nullptr ||
      libdeflate_gzip_decompress_ex(decompressor.get(), compressed.data(), compressed.size(), content.mutable_data_ptr(),
                                    content.nbytes(), &used, nullptr) != LIBDEFLATE_SUCCESS ||
      used != compressed.size()) {
    return std::nullopt;
  }
  return content.narrow(0, offset, count).view(sizes);
}

std::optional<c10::ScalarType> idx_dtype(unsigned char code) {
  switch (code) {
    case 0x08: return c10::kByte;
    case 0x09: return c10::kChar;
    case 0x0B: return c10::kShort;
    case 0x0C: return c10::kInt;
    case 0x0D: return c10::kFloat;
    case 0x0E: return c10::kDouble;
    default: return std::nullopt;
  }
}

void reverse_bytes(std::byte* data, std::int64_t count, std::size_t width) {
  for (std::int64_t i = 0; i < count; ++i, data += width) std::reverse(data, data + width);
}

// `name` in `folder`, with or without .gz.
fs::path find_file(const fs::path& folder, const std::string& name, const std::string& hint) {
  for (const fs::path& candidate : {folder / name, folder / (name + ".gz")}) {
    if (fs::is_regular_file(candidate)) return candidate;
  }
  throw UserError((folder / name).string(), "no such file, plain or with .gz", hint);
}

DatasetPtr build(const DatasetRequest& request, const fs::path& image_path, const fs::path& label_path, std::string name,
                 std::vector<std::string> class_names) {
  Tensor images = read_idx(image_path);
  const Tensor labels = read_idx(label_path);
  if (images.dim() < 1 || labels.dim() != 1) {
    throw UserError(label_path.string(), cat("labels: expected an array of 1 dimension, got ", labels.dim()));
  }
  if (images.size(0) != labels.size(0)) {
    throw UserError(label_path.string(),
                    cat("expected ", images.size(0), " labels as ", image_path.string(), " has images, got ", labels.size(0)));
  }
  if (labels.is_floating_point())
    throw UserError(label_path.string(), cat("labels: expected integers, got ", labels.scalar_type()));
  if (images.dim() == 3) images = images.unsqueeze(1);  // one channel

  TensorDatasetOptions options;
  options.name = std::move(name);
  options.class_names = std::move(class_names);
  options.fingerprint = hash_file(image_path) + hash_file(label_path);
  options.transform_field = "images";
  const bool scale = request.kwargs.get("scale", true);
  options.transforms = TransformPipeline::from_kwargs(
      request.kwargs, request.seed, scale ? std::vector<std::string>{"to_float"} : std::vector<std::string>{});
  return std::make_shared<TensorDataset>(Table({{"images", images, {}}, {"labels", labels.to(c10::kLong), {}}}, options.name),
                                         std::move(options));
}

// "train" or "t10k": the prefixes of MNIST's files. There is no validation split of its own.
std::string file_prefix(const DatasetRequest& request) {
  const std::string canonical = canonical_split(request.split);
  if (canonical == "train") return "train";
  if (canonical == "test" || canonical == "validation") return "t10k";
  throw UserError(request.key + ".split", "expected train or test, got '" + request.split + "'",
                  suggestion(request.split, {"train", "test"}));
}

}  // namespace

Tensor read_idx(const fs::path& path) {
  if (!fs::is_regular_file(path)) throw UserError(path.string(), "no such file");
  GzipFile file(path);
  unsigned char header[4];
  if (file.read(header, 4) != 4) throw UserError(path.string(), "truncated: expected an IDX header, got fewer than 4 bytes");
  const auto dtype = idx_dtype(header[2]);
  if (header[0] != 0 || header[1] != 0 || !dtype || header[3] == 0) {
    char got[32];
    std::snprintf(got, sizeof got, "%02x %02x %02x %02x", header[0], header[1], header[2], header[3]);
    throw UserError(path.string(),
                    cat("not an IDX file: expected magic number 00 00 [dtype 08-0e] [dimensions >= 1], got ", got));
  }
  std::vector<std::int64_t> sizes(header[3]);
  const std::uint64_t width = c10::elementSize(*dtype);
  // 128 bits: no product of the header's 32-bit extents that we accept overflows.
  __extension__ unsigned __int128 bytes = width;
  const auto file_size = static_cast<std::uint64_t>(fs::file_size(path));
  const std::uint64_t most = file.is_compressed() ? file_size * kMaxDeflateRatio : file_size;
  bool too_big = false;
  for (std::int64_t& extent : sizes) {
    unsigned char raw[4];
    if (file.read(raw, 4) != 4)
      throw UserError(path.string(), cat("truncated: expected ", sizes.size(), " extents in its header"));
    extent = (std::int64_t{raw[0]} << 24) | (raw[1] << 16) | (raw[2] << 8) | raw[3];
    if (extent == 0)
      throw UserError(path.string(), "expected elements, got an extent of 0 in its header: the file holds nothing");
    bytes *= static_cast<std::uint64_t>(extent);
    too_big = too_big || bytes > most;
  }
  if (too_big) {
    throw UserError(path.string(),
                    cat("truncated: its header says ",
                        join(
                            [&] {
                              std::vector<std::string> texts;
                              for (const std::int64_t extent : sizes) texts.push_back(cat(extent));
                              return texts;
                            }(),
                            " x "),
                        " elements of ", width, " bytes, more than ", file_size, " bytes on disk can hold"),
                    "download it again");
  }
  if (file.is_compressed() && *dtype == c10::kByte) {
    if (std::optional<Tensor> array = inflate_bytes(path, sizes, 4 + 4 * sizes.size())) return *std::move(array);
  }
  Tensor array = at::empty(sizes, at::TensorOptions(*dtype));
  const auto expected = static_cast<std::uint64_t>(array.nbytes());
  const std::uint64_t got = file.read(array.mutable_data_ptr(), expected);
  if (got != expected)
    throw UserError(path.string(), cat("truncated: expected ", expected, " bytes after the header, got ", got),
                    "download it again");
  unsigned char extra;
  if (file.read(&extra, 1) != 0)
    throw UserError(path.string(), cat("expected ", expected, " bytes after the header, got more"),
                    "the file is damaged, or no IDX file");
  if (width > 1) reverse_bytes(static_cast<std::byte*>(array.mutable_data_ptr()), array.numel(), width);
  return array;
}

DatasetPtr make_fashion_mnist(const DatasetRequest& request) {
  const std::string hint = "apt-get install dataset-fashion-mnist, or set dataset_path to the folder that holds the four files";
  const fs::path folder = request.path ? *request.path : fs::path(kDebianFolder);
  if (!fs::is_directory(folder))
    throw UserError(folder.string(), "no such folder: expected Fashion-MNIST's four files there", hint);
  const std::string prefix = file_prefix(request);
  return build(request, find_file(folder, prefix + "-images-idx3-ubyte", hint),
               find_file(folder, prefix + "-labels-idx1-ubyte", hint), "fashion_mnist/" + request.split,
               {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"});
}

DatasetPtr make_idx_dataset(const DatasetRequest& request) {
  const fs::path& folder = request.require_path();
  const std::string images = request.kwargs.get<std::string>("images", ""),
                    labels = request.kwargs.get<std::string>("labels", "");
  if (images.empty() != labels.empty()) {
    throw UserError(request.key + ".dataset_kwargs", "expected both images and labels (file names), or neither");
  }
  const std::string hint = "set dataset_kwargs.images and dataset_kwargs.labels to the files' names";
  const std::string prefix = images.empty() ? file_prefix(request) : "";
  return build(request, find_file(folder, images.empty() ? prefix + "-images-idx3-ubyte" : images, hint),
               find_file(folder, labels.empty() ? prefix + "-labels-idx1-ubyte" : labels, hint), "idx/" + request.split,
               request.kwargs.get<std::vector<std::string>>("class_names", {}));
}

}  // namespace oumi
