#include "oumi/trainer/sharded_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/state.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::string part_name(const std::string& base, std::int64_t rank, std::int64_t world_size, const char* ending) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05lld-of-%05lld.%s", static_cast<long long>(rank + 1), static_cast<long long>(world_size), ending);
  return base + text;
}

std::int64_t count(const std::vector<std::int64_t>& shape) {
  std::int64_t result = 1;
  for (const std::int64_t size : shape) result *= size;
  return result;
}

Json ranges_of(const std::vector<ParameterShard>& shards) {
  Json ranges = Json::object();
  for (const ParameterShard& shard : shards) {
    if (shard.value.defined()) ranges[shard.name] = {shard.begin, shard.end, count(shard.shape)};
  }
  return ranges;
}

// Where a parameter's elements are: one file's part of it.
struct Part {
  std::size_t file = 0;
  std::int64_t begin = 0, end = 0;
};

// The files of all ranks that wrote a checkpoint; or the one file of a run that was not split.
class Parts {
 public:
  Parts(const fs::path& checkpoint, const std::string& base) : checkpoint_(checkpoint) {
    const std::int64_t world_size = find_world_size(checkpoint, base);
    for (std::int64_t rank = 0; rank < world_size; ++rank) {
      const fs::path json = checkpoint / part_name(base, rank, world_size, "json");
      const Json description = read_json_file(json);
      files_.emplace_back(checkpoint / part_name(base, rank, world_size, "safetensors"));
      scalars_.push_back(description.value("scalars", Json::object()));
      for (const auto& [name, range] : description.at("ranges").items()) {
        parts_[name].push_back({files_.size() - 1, range.at(0).get<std::int64_t>(), range.at(1).get<std::int64_t>()});
      }
    }
  }

  Parts(const fs::path& checkpoint, const fs::path& tensors, Json scalars, const std::vector<WantedPart>& wanted) : checkpoint_(checkpoint) {
    files_.emplace_back(tensors);
    scalars_.push_back(std::move(scalars));
    for (const WantedPart& part : wanted) parts_[part.name].push_back({0, 0, count(part.shape)});
  }

  static bool exist(const fs::path& checkpoint, const std::string& base) { return find_world_size(checkpoint, base) > 0; }

  const Json& scalars(std::size_t file) const { return scalars_.at(file); }
  const std::vector<Part>& of(const std::string& name) const {
    const auto found = parts_.find(name);
    if (found == parts_.end()) throw UserError(checkpoint_.string(), "expected state of the parameter " + name + ", got none");
    return found->second;
  }

  // Elements [begin, end) of the tensor called `tensor`, which belongs to `parameter`.
  Tensor read(const std::string& parameter, const std::string& tensor, std::int64_t begin, std::int64_t end) const {
    Tensor result;
    std::int64_t filled = 0;
    for (const Part& part : of(parameter)) {
      const std::int64_t from = std::max(begin, part.begin), to = std::min(end, part.end);
      if (from >= to) continue;
      const Tensor piece = files_[part.file].tensor(tensor).reshape({-1});
      if (piece.numel() != part.end - part.begin) {
        throw UserError(checkpoint_.string(), cat(tensor, ": expected ", part.end - part.begin, " elements, got ", piece.numel()),
                        "state of this optimizer is not kept element by element: resume at the checkpoint's layout");
      }
      if (!result.defined()) result = at::empty({end - begin}, piece.options());
      result.narrow(0, from - begin, to - from).copy_(piece.narrow(0, from - part.begin, to - from));
      filled += to - from;
    }
    if (filled != end - begin) {
      throw UserError(checkpoint_.string(), cat(tensor, ": expected elements ", begin, " to ", end, ", got ", filled, " of them"), "a part of the checkpoint is missing");
    }
    return result;
  }

 private:
  static std::int64_t find_world_size(const fs::path& checkpoint, const std::string& base) {
    std::int64_t world_size = 0;
    std::error_code error;
    for (fs::directory_iterator entry(checkpoint, error), end; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (!name.starts_with(base + "-00001-of-") || !name.ends_with(".json")) continue;
      world_size = std::atoll(name.c_str() + base.size() + 10);
    }
    return world_size;
  }

  fs::path checkpoint_;
  std::vector<SafetensorsFile> files_;
  std::vector<Json> scalars_;
  std::map<std::string, std::vector<Part>> parts_;
};

constexpr const char* kOptimizer = "optimizer";
constexpr const char* kWeights = "model-rank";

}  // namespace

void add_optimizer_part(CheckpointFiles& files, const ProcessGroup& group, const std::vector<ParameterShard>& shards, const OptimizerState& state) {
  files.add_state(part_name(kOptimizer, group.rank(), group.world_size(), "safetensors"), state.tensors);
  files.add_json(part_name(kOptimizer, group.rank(), group.world_size(), "json"), {{"scalars", state.scalars}, {"ranges", ranges_of(shards)}});
}

void add_weights_part(CheckpointFiles& files, const ProcessGroup& group, const std::vector<ParameterShard>& shards, const StateDict& whole) {
  StateDict tensors;
  Json ranges = ranges_of(shards);
  for (const ParameterShard& shard : shards) {
    if (shard.value.defined()) tensors.set(shard.name, shard.value);
  }
  for (const auto& [name, tensor] : whole) {
    if (!group.is_main()) continue;
    tensors.set(name, tensor);
    ranges[name] = {0, tensor.numel(), tensor.numel()};
  }
  files.add_state(part_name(kWeights, group.rank(), group.world_size(), "safetensors"), tensors);
  files.add_json(part_name(kWeights, group.rank(), group.world_size(), "json"), {{"ranges", ranges}});
}

OptimizerState load_optimizer_parts(const fs::path& checkpoint, const std::vector<WantedPart>& wanted, const OptimizerState& here) {
  const Parts parts = Parts::exist(checkpoint, kOptimizer)
                          ? Parts(checkpoint, kOptimizer)
                          : Parts(checkpoint, checkpoint / "optimizer.safetensors", read_json_file(checkpoint / "optimizer.json"), wanted);
  OptimizerState state;
  state.scalars = parts.scalars(0);
  Json& groups = state.scalars.at("groups");
  const Json& own_groups = here.scalars.at("groups");
  for (std::size_t i = 0; i < groups.size() && i < own_groups.size(); ++i) groups[i]["params"] = own_groups[i]["params"];
  state.scalars["state"] = Json::object();
  for (const WantedPart& part : wanted) {
    const Json& saved = parts.scalars(parts.of(part.name).front().file).at("state");
    const auto entry = saved.find(part.name);
    if (entry == saved.end()) continue;  // never updated
    state.scalars["state"][part.name] = *entry;
    for (const Json& slot : entry->at("tensors")) {
      const std::string tensor = part.name + "." + slot.get<std::string>();
      const Tensor value = parts.read(part.name, tensor, part.begin, part.end);
      state.tensors.set(tensor, part.flat ? value : value.view(part.shape));
    }
  }
  return state;
}

namespace {

class ShardedWeights final : public WeightSource {
 public:
  ShardedWeights(const LanguageModel& model, Sharding& sharding) : own_(state_dict(model)), sharding_(sharding) {
    std::map<std::string, const ParameterShard*> shards;
    for (const ParameterShard& shard : sharding.shards()) shards[shard.name] = &shard;
    for (const auto& [name, tensor] : own_) {
      const auto shard = shards.find(name);
      shapes_.set(name, shard == shards.end() ? tensor : at::empty(shard->second->shape, at::TensorOptions().dtype(shard->second->dtype).device(at::kMeta)));
    }
  }
  const StateDict& shapes() const override { return shapes_; }
  Tensor gather(const std::string& name) override { return shapes_.at(name).is_meta() ? sharding_.gather_weight(name) : own_.at(name); }

 private:
  StateDict own_, shapes_;
  Sharding& sharding_;
};

}  // namespace

WeightsOfShards::WeightsOfShards(LanguageModel& model, Sharding& sharding) : model_(model), sharding_(sharding) {
  model_.set_weight_source(std::make_shared<ShardedWeights>(model, sharding));
}

WeightsOfShards::~WeightsOfShards() {
  model_.set_weight_source(nullptr);
  try {
    sharding_.end_weights();
  } catch (const std::exception&) {
    // The other ranks are gone, and what comes next says so.
  }
}

bool has_weights_parts(const fs::path& checkpoint) { return Parts::exist(checkpoint, kWeights); }

void take_weights_parts(const fs::path& checkpoint, const StateDict& wanted, const LanguageModel::TakeWeight& take) {
  const Parts parts(checkpoint, kWeights);
  for (const auto& [name, tensor] : wanted) take(name, parts.read(name, name, 0, tensor.numel()).view(tensor.sizes()));
}

StateDict load_weights_parts(const fs::path& checkpoint, const StateDict& wanted) {
  const Parts parts(checkpoint, kWeights);
  StateDict weights;
  std::map<const void*, std::string> known;  // tied weights are saved once, under their first name
  for (const auto& [name, tensor] : wanted) {
    const auto [first, is_new] = known.emplace(tensor.unsafeGetTensorImpl(), name);
    weights.set(name, is_new ? parts.read(name, name, 0, tensor.numel()).view(tensor.sizes()) : weights.at(first->second));
  }
  return weights;
}

}  // namespace oumi
