// Which files of a dataset_path belong to a split. No torch here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "oumi/data/registry.h"

namespace oumi {

enum class TabularFormat { kCsv, kJsonl, kParquet, kArrow };

const char* format_name(TabularFormat format);

// By the file's extension; nullopt for any other.
std::optional<TabularFormat> format_of(const std::filesystem::path& file);

// The files of `request.split`, sorted:
// - a file is one split, `train`; other split names are taken when the file's name begins with them;
// - a folder of datasets.save_to_disk, with or without splits (Arrow);
// - a folder with files <split>.ext, <split>-*.ext or <split>/**.ext; where no file is named after a split, all are `train`.
// Throws UserError naming the folder and what is there.
std::vector<std::filesystem::path> split_files(const DatasetRequest& request, TabularFormat format);

// Names of the classes that dataset_info.json beside the file gives for `column`; empty when there are none.
std::vector<std::string> hugging_face_class_names(const std::filesystem::path& file, const std::string& column);

}  // namespace oumi
