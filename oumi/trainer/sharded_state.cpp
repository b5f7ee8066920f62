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
#include "oumi/models/tensor_parallel_state.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

constexpr const char* kOptimizer = "optimizer";
constexpr const char* kWeights = "model-rank";
constexpr std::int64_t kToItsEnd = -1;

// "<base>-00001-of-00002"
std::string part_name(const std::string& base, std::int64_t rank, std::int64_t world_size) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05lld-of-%05lld", static_cast<long long>(rank + 1), static_cast<long long>(world_size));
  return base + text;
}

// How many ranks wrote files "<base>-00001-of-N...json"; 0 without one.
std::int64_t find_ranks(const fs::path& checkpoint, const std::string& base) {
  const std::string first = base + "-00001-of-";
  std::error_code error;
  for (fs::directory_iterator entry(checkpoint, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(first) && name.ends_with(".json")) return std::atoll(name.c_str() + first.size());
  }
  return 0;
}

std::string file_stem(const std::string& base, const StateLayout& layout, bool sharded) {
  std::string stem = base;
  if (layout.tensor_size > 1) stem = part_name(stem + "-tp", layout.tensor_rank, layout.tensor_size);
  if (!sharded) return stem;
  return part_name(layout.tensor_size > 1 ? stem + "-dp" : stem, layout.shard_rank, layout.shard_size);
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

void add_part(CheckpointFiles& files, const std::string& base, const StateLayout& layout, bool sharded,
              const StateDict& tensors, Json description) {
  if (layout.tensor_size > 1) {
    Json splits = Json::object();
    for (const auto& [name, split] : layout.splits) splits[name] = split.to_json();
    description["splits"] = std::move(splits);
  }
  const std::string stem = file_stem(base, layout, sharded);
  files.add_state(stem + ".safetensors", tensors);
  files.add_json(stem + ".json", description);
}

// The state of one copy of a model, or of one tensor-parallel rank's part of it: in one file or in those of several ranks.
class Parts {
 public:
  // Of the files that start with `stem`.
  Parts(const fs::path& checkpoint, const std::string& stem, const std::string& sharded_stem) : checkpoint_(checkpoint) {
    const std::int64_t ranks = find_ranks(checkpoint, sharded_stem);
    if (ranks == 0) add(stem);
    for (std::int64_t rank = 0; rank < ranks; ++rank) add(part_name(sharded_stem, rank, ranks));
  }

  const Json& scalars(std::size_t file = 0) const { return scalars_.at(file); }
  const Json& splits() const { return splits_; }

  // Of the optimizer; nullptr for a parameter that was never updated.
  const Json* state_of(const std::string& parameter) const {
    const auto found = parts_.find(parameter);
    if (found == parts_.end() && ranged_) throw_missing(parameter);
    if (found == parts_.end()) return nullptr;
    const Json& state = scalars(found->second.front().file).at("state");
    const auto entry = state.find(parameter);
    return entry == state.end() ? nullptr : &*entry;
  }

  // Elements [begin, end) of the tensor called `tensor`, which belongs to `parameter`.
  Tensor read(const std::string& parameter, const std::string& tensor, std::int64_t begin, std::int64_t end) const {
    const auto found = parts_.find(parameter);
    if (found == parts_.end()) throw_missing(parameter);
    Tensor result;
    std::int64_t filled = 0;
    for (const Part& part : found->second) {
      if (part.end != kToItsEnd && std::max(begin, part.begin) >= std::min(end, part.end)) continue;
      const Tensor piece = files_[part.file].tensor(tensor).reshape({-1});
      const std::int64_t last = part.end == kToItsEnd ? piece.numel() : part.end;
      if (piece.numel() != last - part.begin) {
        throw UserError(checkpoint_.string(), cat(tensor, ": expected ", last - part.begin, " elements, got ", piece.numel()),
                        "state of this optimizer is not kept element by element: resume at the checkpoint's layout");
      }
      const std::int64_t from = std::max(begin, part.begin), to = std::min(end, last);
      if (from >= to) continue;
      if (!result.defined()) result = at::empty({end - begin}, piece.options());
      result.narrow(0, from - begin, to - from).copy_(piece.narrow(0, from - part.begin, to - from));
      filled += to - from;
    }
    if (filled != end - begin) {
      throw UserError(checkpoint_.string(),
                      cat(tensor, ": expected elements ", begin, " to ", end, ", got ", filled, " of them"),
                      "a part of the checkpoint is missing");
    }
    return result;
  }

 private:
  // Where a parameter's elements are: one file's part of it.
  struct Part {
    std::size_t file = 0;
    std::int64_t begin = 0, end = 0;
  };

  [[noreturn]] void throw_missing(const std::string& parameter) const {
    throw UserError(checkpoint_.string(), "expected state of the parameter " + parameter + ", got none");
  }

  void add(const std::string& stem) {
    Json description = read_json_file(checkpoint_ / (stem + ".json"));
    if (!description.contains("scalars") && !description.contains("ranges"))
      description = {{"scalars", std::move(description)}};  // one process's
    files_.emplace_back(checkpoint_ / (stem + ".safetensors"));
    scalars_.push_back(description.value("scalars", Json::object()));
    splits_ = description.value("splits", Json::object());
    ranged_ = description.contains("ranges");
    if (!ranged_) {
      for (const auto& [name, state] : scalars_.back().at("state").items())
        parts_[name].push_back({files_.size() - 1, 0, kToItsEnd});
      return;
    }
    for (const auto& [name, range] : description.at("ranges").items()) {
      parts_[name].push_back({files_.size() - 1, range.at(0).get<std::int64_t>(), range.at(1).get<std::int64_t>()});
    }
  }

  fs::path checkpoint_;
  std::vector<SafetensorsFile> files_;
  std::vector<Json> scalars_;
  Json splits_;
  bool ranged_ = false;
  std::map<std::string, std::vector<Part>> parts_;
};

// The state of a model, by whichever layout wrote it, as `here` wants it.
class SavedState {
 public:
  SavedState(const fs::path& checkpoint, const std::string& base, const StateLayout& here) : here_(here) {
    const std::int64_t spread = find_ranks(checkpoint, base + "-tp");
    if (spread == 0) copies_.emplace_back(checkpoint, base, base);
    for (std::int64_t rank = 0; rank < spread; ++rank) {
      const std::string stem = part_name(base + "-tp", rank, spread);
      copies_.emplace_back(checkpoint, stem, stem + "-dp");
    }
    for (const auto& [name, split] : copies_.front().splits().items()) splits_[name] = TensorSplit::from_json(split);
  }

  static bool in_parts(const fs::path& checkpoint, const std::string& base) {
    return find_ranks(checkpoint, base) > 0 || find_ranks(checkpoint, base + "-tp") > 0;
  }

  const Parts& own() const { return copies_[same_spread() ? static_cast<std::size_t>(here_.tensor_rank) : 0]; }

  Tensor read(const WantedPart& part, const std::string& tensor) const {
    const Tensor flat = same_spread() ? own().read(part.name, tensor, part.begin, part.end) : read_across(part, tensor);
    return part.flat ? flat : flat.view(part.shape);
  }

 private:
  bool same_spread() const { return static_cast<std::int64_t>(copies_.size()) == here_.tensor_size; }

  // Costs the whole of the parameter.
  Tensor read_across(const WantedPart& part, const std::string& tensor) const {
    const auto own = here_.splits.find(part.name);
    const auto saved = splits_.find(part.name);
    const std::vector<std::int64_t> shape = own == here_.splits.end() ? part.shape : own->second.whole_shape(part.shape);
    Tensor whole;
    if (saved == splits_.end()) {
      whole = copies_.front().read(part.name, tensor, 0, count(shape)).view(shape);
    } else {
      std::vector<Tensor> parts;
      for (std::size_t rank = 0; rank < copies_.size(); ++rank) {
        std::vector<std::int64_t> local = shape;
        local.at(static_cast<std::size_t>(saved->second.dim)) =
            saved->second.local_size(static_cast<std::int64_t>(rank), static_cast<std::int64_t>(copies_.size()));
        parts.push_back(copies_[rank].read(part.name, tensor, 0, count(local)).view(local));
      }
      whole = saved->second.join(parts);
    }
    if (own != here_.splits.end()) whole = own->second.slice(whole, here_.tensor_rank, here_.tensor_size);
    return whole.reshape({-1}).narrow(0, part.begin, part.end - part.begin).clone();
  }

  const StateLayout& here_;
  std::vector<Parts> copies_;  // of each rank of the tensor-parallel group that wrote it
  std::map<std::string, TensorSplit> splits_;
};

WantedPart all_of(const std::string& name, const Tensor& tensor) {
  return {name, tensor.sizes().vec(), 0, tensor.numel(), false};
}

}  // namespace

StateLayout state_layout(const Model& model, const ProcessGroup* shards) {
  StateLayout layout;
  if (shards != nullptr) {
    layout.shard_rank = shards->rank();
    layout.shard_size = shards->world_size();
  }
  const auto* language = dynamic_cast<const LanguageModel*>(&model);
  if (language == nullptr || !language->tensor_parallel()) return layout;
  layout.tensor_rank = language->tensor_parallel()->rank();
  layout.tensor_size = language->tensor_parallel()->size();
  layout.splits = tensor_splits(model);
  return layout;
}

void add_optimizer_part(CheckpointFiles& files, const StateLayout& layout, const std::vector<ParameterShard>* shards,
                        const OptimizerState& state) {
  Json description{{"scalars", state.scalars}};
  if (shards != nullptr) description["ranges"] = ranges_of(*shards);
  add_part(files, kOptimizer, layout, shards != nullptr, state.tensors, std::move(description));
}

void add_weights_part(CheckpointFiles& files, const StateLayout& layout, const std::vector<ParameterShard>& shards,
                      const StateDict& whole) {
  StateDict tensors;
  Json ranges = ranges_of(shards);
  for (const ParameterShard& shard : shards) {
    if (shard.value.defined()) tensors.set(shard.name, shard.value);
  }
  for (const auto& [name, tensor] : whole) {
    if (layout.shard_rank != 0) continue;
    tensors.set(name, tensor);
    ranges[name] = {0, tensor.numel(), tensor.numel()};
  }
  add_part(files, kWeights, layout, /*sharded=*/true, tensors, {{"ranges", ranges}});
}

OptimizerState load_optimizer_parts(const fs::path& checkpoint, const StateLayout& layout,
                                    const std::vector<WantedPart>& wanted, const OptimizerState& here) {
  const SavedState saved(checkpoint, kOptimizer, layout);
  OptimizerState state;
  state.scalars = saved.own().scalars();
  Json& groups = state.scalars.at("groups");
  const Json& own_groups = here.scalars.at("groups");
  for (std::size_t i = 0; i < groups.size() && i < own_groups.size(); ++i) groups[i]["params"] = own_groups[i]["params"];
  state.scalars["state"] = Json::object();
  for (const WantedPart& part : wanted) {
    const Json* entry = saved.own().state_of(part.name);
    if (entry == nullptr) continue;  // never updated
    state.scalars["state"][part.name] = *entry;
    for (const Json& slot : entry->at("tensors")) {
      const std::string tensor = part.name + "." + slot.get<std::string>();
      state.tensors.set(tensor, saved.read(part, tensor));
    }
  }
  return state;
}

namespace {

class ShardedWeights final : public WeightSource {
 public:
  ShardedWeights(const Model& model, Sharding& sharding) : own_(state_dict(model)), sharding_(sharding) {
    std::map<std::string, const ParameterShard*> shards;
    for (const ParameterShard& shard : sharding.shards()) shards[shard.name] = &shard;
    std::map<const void*, Tensor> known;  // a tied weight has one shape under all of its names
    for (const auto& [name, tensor] : own_) {
      const auto shard = shards.find(name);
      if (shard != shards.end()) {
        known[tensor.unsafeGetTensorImpl()] =
            at::empty(shard->second->shape, at::TensorOptions().dtype(shard->second->dtype).device(at::kMeta));
      }
      const auto shape = known.find(tensor.unsafeGetTensorImpl());
      shapes_.set(name, shape == known.end() ? tensor : shape->second);
    }
  }
  const StateDict& shapes() const override { return shapes_; }
  Tensor gather(const std::string& name) override {
    return shapes_.at(name).is_meta() ? sharding_.gather_weight(name) : own_.at(name);
  }

 private:
  StateDict own_, shapes_;
  Sharding& sharding_;
};

}  // namespace

WeightsOfShards::WeightsOfShards(Model& model, Sharding& sharding) : model_(model), sharding_(sharding) {
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

bool has_weights_parts(const fs::path& checkpoint) { return SavedState::in_parts(checkpoint, kWeights); }

void take_weights_parts(const fs::path& checkpoint, const Model& model, const TakeWeight& take) {
  const StateLayout layout = state_layout(model);
  const SavedState saved(checkpoint, kWeights, layout);
  const at::NoGradGuard no_grad;
  for (const auto& item : model.named_buffers()) {
    if (item.value().defined()) Tensor(item.value()).copy_(saved.read(all_of(item.key(), item.value()), item.key()));
  }
  for (const auto& [name, parameter] : unique_named_parameters(model)) take(name, saved.read(all_of(name, parameter), name));
}

StateDict load_weights_parts(const fs::path& checkpoint, const Model& model) {
  const StateLayout layout = state_layout(model);
  const SavedState saved(checkpoint, kWeights, layout);
  StateDict weights;
  std::map<const void*, std::string> known;  // tied weights are saved once, under their first name
  for (const auto& [name, tensor] : state_dict(model)) {
    const auto [first, is_new] = known.emplace(tensor.unsafeGetTensorImpl(), name);
    weights.set(name, is_new ? saved.read(all_of(name, tensor), name) : weights.at(first->second));
  }
  return weights;
}

}  // namespace oumi
