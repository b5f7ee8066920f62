// The IDX format of MNIST and its descendants (http://yann.lecun.com/exdb/mnist/): big-endian header, then the array;
// plain or gzip-compressed.
#pragma once

#include <filesystem>

#include "oumi/data/registry.h"

namespace oumi {

// The file's array in its own dtype: uint8, int8, int16, int32, float32 or float64. Throws UserError naming the file and
// what is wrong: magic number, size against header, broken compression.
Tensor read_idx(const std::filesystem::path& path);

// `fashion_mnist`: fields images float32 [1, 28, 28] in [0, 1] and labels int64. dataset_path is a folder with the four
// files of the original distribution, .gz or not; default: where Debian's dataset-fashion-mnist puts them.
// `idx`: the same for any pair of files; dataset_kwargs `images` and `labels` name them, else they are found by split.
// Both take transforms, mean, std, and scale: false for values of 0..255.
DatasetPtr make_fashion_mnist(const DatasetRequest& request);
DatasetPtr make_idx_dataset(const DatasetRequest& request);

}  // namespace oumi
