// Folders of images, one subfolder per class.
#pragma once

#include "oumi/data/registry.h"

namespace oumi {

// `image_folder`, after torchvision's ImageFolder: dataset_path/<class>/**/*.{png,jpg,jpeg}, or
// dataset_path/<split>/<class>/... where such split folders are; classes and files in sorted order. Fields: images float32
// [channels, height, width] in [0, 1], labels int64. Files are decoded when asked for. Images of different sizes need a resize
// or crop to form batches. dataset_kwargs: mode (RGB or L; default RGB), transforms, mean, std, scale (false: values of
// 0..255).
DatasetPtr make_image_folder(const DatasetRequest& request);

}  // namespace oumi
