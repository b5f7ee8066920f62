#include "oumi/data/transforms/transform.h"

#include <ATen/ops/arange.h>

#include "oumi/base/registry.h"
#include "oumi/data/transforms/builtin.h"

namespace oumi {
namespace {

Registry<TransformFactory>& registry() {
  static Registry<TransformFactory>* const table = [] {
    auto* filled = new Registry<TransformFactory>("transform");
    for (auto& [name, factory] : builtin_transforms()) filled->add(name, std::move(factory));
    return filled;
  }();
  return *table;
}

TransformPtr make_transform(const std::string& name, Json options, const std::string& origin) {
  const TransformFactory& factory = registry().at(name, origin);
  const Kwargs kwargs(std::move(options), origin);
  TransformPtr transform = factory(kwargs);
  kwargs.check_all_read();
  return transform;
}

// {name: resize, size: 32}, {name: resize, args: {size: 32}}, or "resize" alone.
TransformPtr parse_entry(const Json& entry, const std::string& origin) {
  if (entry.is_string()) return make_transform(entry.get<std::string>(), Json::object(), origin);
  if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) {
    throw UserError(origin, "expected {name: ..., options} or a transform's name, got " + entry.dump(),
                    "known: " + join(registry().names(), ", "));
  }
  Json options = entry;
  options.erase("name");
  if (options.contains("args")) {
    if (options.size() > 1) throw UserError(origin, "expected options either in args or beside name, got both");
    options = Json(options["args"]);
  }
  return make_transform(entry["name"].get<std::string>(), std::move(options), origin);
}

}  // namespace

void register_transform(const std::string& name, TransformFactory factory) { registry().add(name, std::move(factory)); }

TransformPipeline::TransformPipeline(std::vector<TransformPtr> transforms, std::uint64_t seed, std::string description)
    : transforms_(std::move(transforms)), seed_(seed), description_(std::move(description)) {
  if (is_random()) description_ += cat(" seed ", seed_);
}

TransformPipeline TransformPipeline::from_kwargs(const Kwargs& kwargs, std::uint64_t seed,
                                                 const std::vector<std::string>& first) {
  std::vector<TransformPtr> transforms;
  Json description = Json::object();
  for (const std::string& name : first) {
    transforms.push_back(make_transform(name, Json::object(), kwargs.origin()));
    description["first"].push_back(name);
  }
  if (const Json* list = kwargs.find("transforms"); list != nullptr && !list->is_null()) {
    const std::string origin = kwargs.origin() + ".transforms";
    if (!list->is_array()) throw UserError(origin, "expected list, got " + json_type_name(*list));
    for (std::size_t i = 0; i < list->size(); ++i) transforms.push_back(parse_entry((*list)[i], cat(origin, "[", i, "]")));
    description["transforms"] = *list;
  }
  const bool has_mean = kwargs.contains("mean"), has_std = kwargs.contains("std");
  if (has_mean || has_std) {
    const auto mean = read_numbers(kwargs, "mean", {0.0}), std = read_numbers(kwargs, "std", {1.0});
    transforms.push_back(make_normalize(mean, std, kwargs.origin()));
    description["mean"] = mean;
    description["std"] = std;
  }
  return TransformPipeline(std::move(transforms), seed, description.dump());
}

bool TransformPipeline::is_random() const {
  for (const TransformPtr& transform : transforms_) {
    if (transform->is_random()) return true;
  }
  return false;
}

Tensor TransformPipeline::apply(Tensor sample, std::int64_t epoch, std::int64_t index) const {
  SampleRng rng(seed_, epoch, index);
  for (const TransformPtr& transform : transforms_) sample = transform->apply(sample, rng, 0);
  return sample.contiguous();
}

Tensor TransformPipeline::apply_to_batch(Tensor batch) const {
  SampleRng unused(0, 0, 0);
  for (const TransformPtr& transform : transforms_) batch = transform->apply(batch, unused, 1);
  return batch.contiguous();
}

Tensor TransformPipeline::byte_table(c10::IntArrayRef sample_sizes) const {
  // Where channels are not the third dimension from the end, only chains that treat all elements alike fit a table.
  if (transforms_.empty() || sample_sizes.size() != 3) return {};
  for (const TransformPtr& transform : transforms_) {
    if (!transform->is_elementwise()) return {};
  }
  const std::int64_t channels = sample_sizes[0];
  const Tensor bytes = at::arange(256, at::TensorOptions(c10::kByte)).view({1, 1, 256}).expand({channels, 1, 256}).contiguous();
  const Tensor table = apply(bytes, 0, 0);
  return table.scalar_type() == c10::kFloat ? table.view({channels, 256}) : Tensor();
}

}  // namespace oumi
