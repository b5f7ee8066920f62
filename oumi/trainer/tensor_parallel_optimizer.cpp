#include "oumi/trainer/tensor_parallel_optimizer.h"

#include <cstdio>
#include <map>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/tensor_parallel_state.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFirst = "optimizer-tp-00001-of-";

std::string spread_file(std::int64_t rank, std::int64_t size, const char* ending) {
  char text[80];
  std::snprintf(text, sizeof text, "optimizer-tp-%05lld-of-%05lld.%s", static_cast<long long>(rank + 1), static_cast<long long>(size), ending);
  return text;
}

// How many ranks wrote it; 0: not in this form.
std::int64_t ranks_of(const fs::path& checkpoint) {
  std::error_code error;
  for (fs::directory_iterator entry(checkpoint, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kFirst) && name.ends_with(".json")) return std::atoll(name.c_str() + std::string_view(kFirst).size());
  }
  return 0;
}

}  // namespace

void add_tensor_parallel_optimizer(CheckpointFiles& files, const LanguageModel& model, const OptimizerState& state) {
  const TensorParallel& parallel = *model.tensor_parallel();
  Json splits = Json::object();
  for (const auto& [name, split] : tensor_splits(model)) splits[name] = split.to_json();
  files.add_state(spread_file(parallel.rank(), parallel.size(), "safetensors"), state.tensors);
  files.add_json(spread_file(parallel.rank(), parallel.size(), "json"), {{"scalars", state.scalars}, {"splits", splits}});
}

bool has_tensor_parallel_optimizer(const fs::path& checkpoint) { return ranks_of(checkpoint) > 0; }

OptimizerState load_tensor_parallel_optimizer(const fs::path& checkpoint, const Model& model, const OptimizerState& here) {
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  const TensorParallelPtr parallel = language == nullptr ? nullptr : language->tensor_parallel();
  const std::int64_t wrote = ranks_of(checkpoint);
  if (wrote == 0 && !fs::exists(checkpoint / "optimizer.json")) {
    throw UserError(checkpoint.string(), "its optimizer state is sharded over data-parallel ranks: expected that of one process or of tensor parallelism",
                    "resume with the fsdp and deepspeed settings that it was written with, and tensor_model_parallel_size: 1");
  }
  std::vector<SafetensorsFile> files;
  Json description;
  if (wrote == 0) {
    files.emplace_back(checkpoint / "optimizer.safetensors");
    description = {{"scalars", read_json_file(checkpoint / "optimizer.json")}, {"splits", Json::object()}};
  } else {
    for (std::int64_t rank = 0; rank < wrote; ++rank) files.emplace_back(checkpoint / spread_file(rank, wrote, "safetensors"));
    description = read_json_file(checkpoint / spread_file(0, wrote, "json"));
  }
  std::map<std::string, TensorSplit> own_splits = tensor_splits(model), saved_splits;
  for (const auto& [name, split] : description.at("splits").items()) saved_splits[name] = TensorSplit::from_json(split);

  OptimizerState state;
  state.scalars = description.at("scalars");
  Json& groups = state.scalars.at("groups");
  const Json& own_groups = here.scalars.at("groups");
  for (std::size_t i = 0; i < groups.size() && i < own_groups.size(); ++i) groups[i]["params"] = own_groups[i]["params"];
  const bool same_size = parallel && wrote == parallel->size();
  for (const auto& [name, entry] : state.scalars.at("state").items()) {
    for (const Json& slot : entry.at("tensors")) {
      const std::string tensor = name + "." + slot.get<std::string>();
      const auto saved = saved_splits.find(name);
      const auto own = own_splits.find(name);
      if (same_size && saved != saved_splits.end()) {
        state.tensors.set(tensor, files[static_cast<std::size_t>(parallel->rank())].tensor(tensor));
        continue;
      }
      Tensor whole = files.front().tensor(tensor);
      if (saved != saved_splits.end()) {
        std::vector<Tensor> parts;
        for (const SafetensorsFile& file : files) parts.push_back(file.tensor(tensor));
        whole = saved->second.join(parts);
      }
      state.tensors.set(tensor, own == own_splits.end() ? whole : own->second.slice(whole, parallel->rank(), parallel->size()));
    }
  }
  return state;
}

}  // namespace oumi
