#include "oumi/data/formats/npz.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <zip.h>

#include <algorithm>
#include <cstring>

#include "oumi/base/files.h"
#include "oumi/data/formats/npy.h"
#include "oumi/data/split.h"
#include "oumi/data/tensor_dataset.h"

namespace oumi {
namespace {

struct ArrayFile {
  std::string name;  // without .npy
  std::string bytes;
};

// The archive's entries, sorted by name. Checksums are checked while reading.
std::vector<ArrayFile> read_archive(const std::filesystem::path& path) {
  int code = 0;
  const std::unique_ptr<zip_t, void (*)(zip_t*)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code),
                                                         [](zip_t* zip) { zip_discard(zip); });
  if (archive == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw UserError(path.string(), "not a readable .npz archive: " + reason,
                    "write it with numpy.savez; a truncated download looks like this too");
  }
  const auto file_size = std::filesystem::file_size(path);
  std::vector<ArrayFile> files;
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive.get(), i, 0, &stat) != 0 || (stat.valid & ZIP_STAT_NAME) == 0 ||
        (stat.valid & ZIP_STAT_SIZE) == 0) {
      throw UserError(path.string(), cat("entry ", i, " of the archive cannot be read"));
    }
    std::string name = stat.name;
    if (!name.ends_with(".npy")) throw UserError(path.string(), "expected .npy entries, got '" + name + "'");
    // deflate cannot do better: a larger claim is a lie that must not be allocated.
    if (stat.size / 1032 > file_size)
      throw UserError(path.string(), cat("entry '", name, "' claims ", stat.size, " bytes in an archive of ", file_size));
    ArrayFile file{name.substr(0, name.size() - 4), std::string(stat.size, '\0')};
    const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> entry(zip_fopen_index(archive.get(), i, 0), zip_fclose);
    std::uint64_t done = 0;
    while (entry != nullptr && done < stat.size) {
      const zip_int64_t got = zip_fread(entry.get(), file.bytes.data() + done, stat.size - done);
      if (got <= 0) break;
      done += static_cast<std::uint64_t>(got);
    }
    // libzip compares the CRC when a read meets the end.
    char beyond;
    if (entry == nullptr || done != stat.size || zip_fread(entry.get(), &beyond, 1) != 0) {
      throw UserError(path.string(), cat("array '", file.name, "' is damaged: expected ", stat.size, " bytes, got ", done, " (",
                                         entry == nullptr ? zip_strerror(archive.get()) : zip_file_strerror(entry.get()), ")"));
    }
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(), [](const ArrayFile& a, const ArrayFile& b) { return a.name < b.name; });
  if (files.empty()) throw UserError(path.string(), "expected arrays in the archive, got none");
  return files;
}

// What the array is read as, and what it becomes: torch calculates little with unsigned types wider than a byte.
struct Dtypes {
  c10::ScalarType stored, wanted;
};

std::optional<Dtypes> dtypes_of(const NpyHeader& header) {
  const auto same = [](c10::ScalarType type) { return Dtypes{type, type}; };
  switch (header.kind) {
    case 'b':
      if (header.item_size == 1) return same(c10::kBool);
      break;
    case 'i':
      switch (header.item_size) {
        case 1: return same(c10::kChar);
        case 2: return same(c10::kShort);
        case 4: return same(c10::kInt);
        case 8: return same(c10::kLong);
      }
      break;
    case 'u':
      switch (header.item_size) {
        case 1: return same(c10::kByte);
        case 2: return Dtypes{c10::kUInt16, c10::kInt};
        case 4: return Dtypes{c10::kUInt32, c10::kLong};
        case 8: return Dtypes{c10::kLong, c10::kLong};
      }
      break;
    case 'f':
      switch (header.item_size) {
        case 2: return same(c10::kHalf);
        case 4: return same(c10::kFloat);
        case 8: return same(c10::kDouble);
      }
      break;
  }
  return std::nullopt;
}

Tensor array_tensor(const NpyHeader& header, std::string& bytes, const std::string& origin) {
  const auto dtypes = dtypes_of(header);
  if (!dtypes) {
    throw UserError(
        origin, cat("dtype kind '", header.kind, "' of ", header.item_size, " bytes is not supported"),
        "save numbers or bools; strings are read for the split column alone, or dropped with dataset_kwargs.columns");
  }
  char* data = bytes.data() + header.data_offset;
  if (header.byte_order == '>' && header.item_size > 1) {
    for (std::int64_t i = 0; i < header.elements(); ++i)
      std::reverse(data + i * header.item_size, data + (i + 1) * header.item_size);
  }
  std::vector<std::int64_t> shape = header.shape;
  if (header.fortran_order) std::reverse(shape.begin(), shape.end());
  Tensor tensor = at::empty(shape, at::TensorOptions(dtypes->stored));
  if (tensor.nbytes() > 0) std::memcpy(tensor.mutable_data_ptr(), data, tensor.nbytes());
  if (header.kind == 'u' && header.item_size == 8 && tensor.numel() > 0 && tensor.lt(0).any().item<bool>()) {
    throw UserError(origin, "holds uint64 values beyond 2^63 - 1, which no tensor type takes");
  }
  if (header.fortran_order) {
    std::vector<std::int64_t> axes(shape.size());
    for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(axes.size() - 1 - i);
    tensor = tensor.permute(axes).contiguous();
  }
  return tensor.to(dtypes->wanted);
}

// Positions whose split string is the one asked for, by its own name or a common one for it.
std::vector<std::int64_t> rows_of_split(const std::vector<std::string>& splits, const DatasetRequest& request) {
  std::vector<std::int64_t> exact, canonical;
  std::vector<std::string> known;
  for (std::size_t i = 0; i < splits.size(); ++i) {
    if (std::find(known.begin(), known.end(), splits[i]) == known.end() && known.size() < 20) known.push_back(splits[i]);
    if (splits[i] == request.split) exact.push_back(static_cast<std::int64_t>(i));
    if (canonical_split(splits[i]) == canonical_split(request.split)) canonical.push_back(static_cast<std::int64_t>(i));
  }
  if (!exact.empty()) return exact;
  if (!canonical.empty()) return canonical;
  throw UserError(request.key + ".split", "no sample is of split '" + request.split + "' in " + request.path->string(),
                  "there are: " + join(known, ", "));
}

}  // namespace

DatasetPtr make_npz_dataset(const DatasetRequest& request) {
  const std::filesystem::path& path = request.require_path();
  if (!std::filesystem::is_regular_file(path)) throw UserError(path.string(), "expected an .npz file, got a folder");
  const Kwargs& kwargs = request.kwargs;
  const auto columns = kwargs.get<std::vector<std::string>>("columns", {});
  const Json* rename = kwargs.find("rename");
  const std::string split_column = kwargs.get<std::string>("npz_split_col", "split");

  std::vector<std::string> names, splits;
  std::vector<Column> fields;
  bool has_split = false;
  for (ArrayFile& file : read_archive(path)) {
    names.push_back(file.name);
    const std::string origin = path.string() + ":" + file.name;
    const NpyHeader header = parse_npy_header(file.bytes, origin);
    if (header.shape.empty()) throw UserError(origin, "expected an array with a leading sample dimension, got a scalar");
    if (file.name == split_column && (header.kind == 'U' || header.kind == 'S')) {
      splits = npy_strings(header, file.bytes, origin);
      has_split = true;
      continue;
    }
    if (!columns.empty() && std::find(columns.begin(), columns.end(), file.name) == columns.end()) continue;
    std::string name = file.name;
    if (rename != nullptr && rename->is_object() && rename->contains(name)) name = (*rename)[name].get<std::string>();
    fields.push_back({std::move(name), array_tensor(header, file.bytes, origin), {}});
    file.bytes = {};
  }
  for (const std::string& wanted : columns) {
    if (std::find(names.begin(), names.end(), wanted) == names.end()) {
      throw UserError(request.key + ".dataset_kwargs.columns", "no array '" + wanted + "' in " + path.string(),
                      suggestion(wanted, names));
    }
  }
  if (kwargs.values().contains("npz_split_col") && !has_split) {
    throw UserError(request.key + ".dataset_kwargs.npz_split_col",
                    "no array of strings '" + split_column + "' in " + path.string(), suggestion(split_column, names));
  }
  if (!has_split && canonical_split(request.split) != "train") {
    throw UserError(request.key + ".split", "asked for '" + request.split + "', but " + path.string() + " has no '" +
                                                split_column + "' array: all of it is train");
  }
  if (fields.empty()) throw UserError(path.string(), "expected arrays of numbers, got none");
  Table table(std::move(fields), path.string());
  if (has_split) {
    if (static_cast<std::int64_t>(splits.size()) != table.rows()) {
      throw UserError(path.string(), cat("columns differ in length: expected ", table.rows(), " rows, got ", splits.size(),
                                         " in '", split_column, "'"));
    }
    const Tensor rows = at::tensor(rows_of_split(splits, request));
    std::vector<Column> kept;
    for (std::size_t i = 0; i < table.size(); ++i)
      kept.push_back({table.column(i).name, at::index_select(table.column(i).values, 0, rows), {}});
    table = Table(std::move(kept), path.string());
  }

  TensorDatasetOptions options;
  options.name = path.filename().string() + "/" + request.split;
  options.fingerprint = hash_file(path) + "|" + request.split + "|" + kwargs.values().dump();
  options.class_names = kwargs.get<std::vector<std::string>>("class_names", {});
  const std::string field = kwargs.get<std::string>("transform_field", "");
  options.transforms = TransformPipeline::from_kwargs(kwargs, request.seed);
  if (!options.transforms.empty())
    options.transform_field = field.empty() ? find_image_field(table, request.key + ".dataset_kwargs.transforms") : field;
  return std::make_shared<TensorDataset>(std::move(table), std::move(options));
}

}  // namespace oumi
