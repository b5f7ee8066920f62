#include "oumi/checkpoint/convert.h"

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/torch_file.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

bool is_torch_file(const fs::path& path) {
  const std::string extension = to_lower(path.extension().string());
  return extension == ".pt" || extension == ".pth" || extension == ".bin";
}

void refuse_existing(const fs::path& path, const ConvertOptions& options) {
  if (!options.overwrite && fs::exists(path))
    throw UserError(path.string(), "exists already", "name another output, or remove it");
}

[[noreturn]] void already(const fs::path& input) {
  throw UserError(input.string(), "has the wanted format already: nothing to convert");
}

void save_torch_state(const fs::path& path, const StateDict& state) {
  c10::impl::GenericDict dict(c10::StringType::get(), c10::TensorType::get());
  for (const auto& [name, tensor] : state) dict.insert(name, tensor);
  write_torch_file(path, dict);
}

std::vector<fs::path> convert_file(const fs::path& input, const ConvertOptions& options) {
  const bool from_torch = is_torch_file(input);
  if (!from_torch && to_lower(input.extension().string()) != ".safetensors") {
    throw UserError(input.string(),
                    "expected a file .safetensors, .pt, .pth or .bin, got '" + input.extension().string() + "'");
  }
  if (from_torch == (options.to == WeightFormat::kTorch)) already(input);
  const fs::path output =
      !options.output.empty() ? options.output : fs::path(input).replace_extension(from_torch ? ".safetensors" : ".pt");
  refuse_existing(output, options);
  if (from_torch)
    save_safetensors(output, load_torch_state_dict(input), {.keep_hashes = true});
  else
    save_torch_state(output, load_safetensors(input, ContentCheck::kHashes));
  return {output};
}

std::vector<fs::path> convert_folder(const fs::path& input, const ConvertOptions& options) {
  const std::string& base = options.shards.base_name;
  const bool has_safetensors =
      fs::exists(input / (base + ".safetensors")) || fs::exists(input / (base + ".safetensors.index.json"));
  const bool is_single = fs::exists(input / "pytorch_model.bin");
  const bool has_torch = is_single || fs::exists(input / "pytorch_model.bin.index.json");
  const fs::path output = options.output.empty() ? input : options.output;
  if (options.to == WeightFormat::kTorch) {
    if (!has_safetensors && has_torch) already(input);
    const StateDict state = load_sharded_safetensors(input, base, ContentCheck::kHashes);
    refuse_existing(output / "pytorch_model.bin", options);
    make_directories(output);
    save_torch_state(output / "pytorch_model.bin", state);
    return {output / "pytorch_model.bin"};
  }
  if (has_safetensors && !has_torch) already(input);
  if (!has_torch)
    throw UserError(input.string(), "no weights found: expected pytorch_model.bin or pytorch_model.bin.index.json");
  const StateDict state = is_single ? load_torch_state_dict(input / "pytorch_model.bin") : load_sharded_torch_state_dict(input);
  refuse_existing(output / (base + ".safetensors"), options);
  refuse_existing(output / (base + ".safetensors.index.json"), options);
  make_directories(output);
  std::vector<fs::path> written;
  for (const auto& [name, digest] : save_sharded_safetensors(output, state, options.shards).files)
    written.push_back(output / name);
  return written;
}

}  // namespace

std::vector<fs::path> convert_weights(const fs::path& input, const ConvertOptions& options) {
  std::error_code ignored;
  if (!fs::exists(input, ignored)) throw UserError(input.string(), "does not exist", "check the path");
  return fs::is_directory(input) ? convert_folder(input, options) : convert_file(input, options);
}

}  // namespace oumi
