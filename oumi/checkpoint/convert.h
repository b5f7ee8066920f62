// Weights from one file format to another.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "oumi/checkpoint/safetensors.h"

namespace oumi {

enum class WeightFormat { kSafetensors, kTorch };

struct ConvertOptions {
  WeightFormat to = WeightFormat::kSafetensors;
  std::filesystem::path output = {};  // empty: beside the input, under the format's usual name
  bool overwrite = false;             // otherwise an output that exists is a UserError
  ShardOptions shards = {};           // of a folder's safetensors
};

// `input` is a file (.safetensors, .pt, .pth, .bin) or a folder with model.safetensors / pytorch_model.bin or their shards; the
// output is then a file or a folder (model.safetensors or its shards; pytorch_model.bin). The input stays. Returns the written
// files. Throws UserError for what cannot be converted, and when the input has the wanted format already.
std::vector<std::filesystem::path> convert_weights(const std::filesystem::path& input, const ConvertOptions& options);

}  // namespace oumi
