#include "oumi/data/formats/image_folder.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <cstring>

#include "oumi/base/files.h"
#include "oumi/data/formats/image_codec.h"
#include "oumi/data/split.h"
#include "oumi/data/transforms/transform.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

struct Entry {
  fs::path path;
  std::int64_t label;
};

class ImageFolder : public MapDataset {
 public:
  ImageFolder(std::vector<Entry> entries, std::vector<std::string> classes, ImageMode mode, TransformPipeline transforms,
              std::string name)
      : entries_(std::move(entries)),
        classes_(std::move(classes)),
        mode_(mode),
        transforms_(std::move(transforms)),
        name_(std::move(name)) {}

  std::optional<std::int64_t> length() const override { return static_cast<std::int64_t>(entries_.size()); }

  Sample get(std::int64_t index) override {
    if (static_cast<std::uint64_t>(index) >= entries_.size()) {
      throw UserError(name_, cat("sample ", index, " is out of range: expected an index in [0, ", entries_.size(), ")"));
    }
    const Entry& entry = entries_[index];
    const Image image = decode_image(entry.path, mode_);
    Tensor pixels = at::empty({image.channels, image.height, image.width}, at::TensorOptions(c10::kByte));
    std::memcpy(pixels.mutable_data_ptr(), image.pixels.data(), image.pixels.size());
    try {
      pixels = transforms_.apply(std::move(pixels), epoch(), index);
    } catch (const UserError& error) {
      throw UserError(entry.path.string(), cat("sample ", index, ": [", error.component(), "] ", error.message()),
                      error.hint());
    }
    return {{"images", std::move(pixels)}, {"labels", at::scalar_tensor(entry.label, at::TensorOptions(c10::kLong))}};
  }

  std::string name() const override { return name_; }
  std::vector<std::string> class_names() const override { return classes_; }

  // Names and sizes of the files: their contents would take as long to read as an epoch.
  std::string fingerprint() const override {
    std::string parts = cat(static_cast<int>(mode_), transforms_.description());
    for (const Entry& entry : entries_)
      parts += cat(entry.path.parent_path().filename().string(), "/", entry.path.filename().string(), ":",
                   fs::file_size(entry.path), ";");
    return hash_bytes(parts.data(), parts.size());
  }

 private:
  std::vector<Entry> entries_;
  std::vector<std::string> classes_;
  ImageMode mode_;
  TransformPipeline transforms_;
  std::string name_;
};

bool is_image(const fs::path& path) {
  const std::string suffix = to_lower(path.extension().string());
  return suffix == ".png" || suffix == ".jpg" || suffix == ".jpeg";
}

std::vector<fs::path> subfolders(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && entry.path().filename().string().front() != '.') found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The folder that holds the classes of the split.
fs::path split_folder(const DatasetRequest& request) {
  const fs::path& root = request.require_path();
  if (!fs::is_directory(root)) throw UserError(root.string(), "expected a folder with one subfolder per class, got a file");
  const std::string wanted = canonical_split(request.split);
  bool has_splits = false;
  std::vector<std::string> names;
  for (const fs::path& folder : subfolders(root)) {
    const std::string name = folder.filename().string(), canonical = canonical_split(name);
    if (canonical == wanted) return folder;
    has_splits = has_splits || canonical == "train" || canonical == "validation" || canonical == "test";
    names.push_back(name);
  }
  if (has_splits || wanted != "train") {
    throw UserError(request.key + ".split", "no folder for split '" + request.split + "' in " + root.string(),
                    names.empty() ? "" : "there are: " + join(names, ", "));
  }
  return root;
}

ImageMode parse_mode(const DatasetRequest& request) {
  const std::string mode = request.kwargs.get<std::string>("mode", "RGB"), lower = to_lower(mode);
  if (lower == "rgb") return ImageMode::kRgb;
  if (lower == "l" || lower == "gray" || lower == "grayscale") return ImageMode::kGray;
  throw UserError(request.key + ".dataset_kwargs.mode", "expected RGB or L, got '" + mode + "'");
}

}  // namespace

DatasetPtr make_image_folder(const DatasetRequest& request) {
  const fs::path folder = split_folder(request);
  std::vector<std::string> classes;
  std::vector<Entry> entries;
  for (const fs::path& class_folder : subfolders(folder)) {
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(class_folder)) {
      if (entry.is_regular_file() && is_image(entry.path())) files.push_back(entry.path());
    }
    if (files.empty()) throw UserError(class_folder.string(), "expected .png, .jpg or .jpeg files of this class, got none");
    std::sort(files.begin(), files.end());
    for (fs::path& file : files) entries.push_back({std::move(file), static_cast<std::int64_t>(classes.size())});
    classes.push_back(class_folder.filename().string());
  }
  if (entries.empty()) throw UserError(folder.string(), "expected one subfolder per class with images in it, got none");
  const ImageMode mode = parse_mode(request);
  const bool scale = request.kwargs.get("scale", true);
  auto transforms = TransformPipeline::from_kwargs(request.kwargs, request.seed,
                                                   scale ? std::vector<std::string>{"to_float"} : std::vector<std::string>{});
  return std::make_shared<ImageFolder>(std::move(entries), std::move(classes), mode, std::move(transforms),
                                       folder.filename().string());
}

}  // namespace oumi
