#include "oumi/optim/optimizer_state.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <unordered_set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/optim/state_access.h"

namespace oumi {
namespace {

const char* const kWhere = "optimizer state";

void check_name_count(const StateAccess& access, const std::vector<std::string>& names) {
  if (access.parameters().size() != names.size()) {
    throw InternalError(cat("the optimizer has ", access.parameters().size(), " parameters, got ", names.size(), " names"));
  }
}

const Json& field(const Json& json, const std::string& name) {
  const auto found = json.is_object() ? json.find(name) : json.end();
  if (!json.is_object() || found == json.end()) throw UserError(kWhere, cat("field '", name, "': expected a value, got none"));
  return *found;
}

// The names of a saved group, checked against those of the optimizer's.
void check_group(const Json& saved, std::size_t index, const std::vector<std::string>& names) {
  const Json& list = field(saved, "params");
  std::vector<std::string> saved_names;
  if (list.is_array()) {
    for (const Json& name : list) saved_names.push_back(name.is_string() ? name.get<std::string>() : name.dump());
  }
  if (saved_names == names) return;
  const std::string where = cat(kWhere, ": parameter group ", index);
  for (const std::string& name : names) {
    if (std::find(saved_names.begin(), saved_names.end(), name) == saved_names.end()) {
      throw UserError(where, cat("parameter '", name, "' of the model is missing"), suggestion(name, saved_names));
    }
  }
  for (const std::string& name : saved_names) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      throw UserError(where, cat("parameter '", name, "' is not in this group of the model's"), suggestion(name, names));
    }
  }
  throw UserError(where, "expected the model's order of parameters, got another");
}

}  // namespace

OptimizerState optimizer_state(const torch::optim::Optimizer& optimizer, const std::vector<std::string>& names) {
  // Reading changes nothing; the accessor serves writing too.
  const StateAccess access(const_cast<torch::optim::Optimizer&>(optimizer));
  check_name_count(access, names);
  OptimizerState state;
  state.scalars["optimizer"] = access.kind();
  state.scalars["hyperparameters"] = access.hyperparameters();
  state.scalars["groups"] = Json::array();
  std::size_t index = 0;
  for (std::size_t group = 0; group < optimizer.param_groups().size(); ++group) {
    Json entry = {{"lr", optimizer.param_groups()[group].options().get_lr()}, {"weight_decay", access.weight_decay(group)}};
    entry["params"] = Json::array();
    for (std::size_t i = 0; i < optimizer.param_groups()[group].params().size(); ++i) entry["params"].push_back(names[index++]);
    state.scalars["groups"].push_back(std::move(entry));
  }
  state.scalars["state"] = Json::object();
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::optional<ParameterState> found = access.read(access.parameters()[i]);
    if (!found) continue;
    Json entry = {{"step", found->step}, {"tensors", Json::array()}};
    for (const auto& [slot, tensor] : found->slots) {
      entry["tensors"].push_back(slot);
      state.tensors.set(cat(names[i], ".", slot), tensor);
    }
    state.scalars["state"][names[i]] = std::move(entry);
  }
  return state;
}

void load_optimizer_state(torch::optim::Optimizer& optimizer, const std::vector<std::string>& names,
                          const OptimizerState& state) {
  StateAccess access(optimizer);
  check_name_count(access, names);
  const Json& kind = field(state.scalars, "optimizer");
  if (kind != access.kind()) throw UserError(kWhere, cat("expected that of '", access.kind(), "', got that of ", kind.dump()));
  const Json& groups = field(state.scalars, "groups");
  const std::size_t group_count = optimizer.param_groups().size();
  if (!groups.is_array() || groups.size() != group_count) {
    throw UserError(kWhere, cat("expected ", group_count, " parameter groups, got ", groups.is_array() ? groups.size() : 0));
  }

  // Everything is checked before anything is changed.
  LoadPlan plan;
  plan.hyperparameters = field(state.scalars, "hyperparameters");
  std::size_t begin = 0;
  for (std::size_t group = 0; group < group_count; ++group) {
    const std::size_t size = optimizer.param_groups()[group].params().size();
    check_group(
        groups[group], group,
        {names.begin() + static_cast<std::ptrdiff_t>(begin), names.begin() + static_cast<std::ptrdiff_t>(begin + size)});
    begin += size;
    const Json& rate = field(groups[group], "lr");
    const Json& decay = field(groups[group], "weight_decay");
    if (!rate.is_number() || !decay.is_number()) {
      throw UserError(cat(kWhere, ": parameter group ", group),
                      cat("expected numbers for lr and weight_decay, got ", rate.dump(), " and ", decay.dump()));
    }
    plan.groups.push_back({rate.get<double>(), decay.get<double>()});
  }
  const Json& saved = field(state.scalars, "state");
  if (!saved.is_object()) throw UserError(kWhere, cat("field 'state': expected dict, got ", json_type_name(saved)));
  std::unordered_set<std::string> used;
  plan.parameters.resize(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto entry = saved.find(names[i]);
    if (entry == saved.end()) continue;
    const Json& step = field(*entry, "step");
    const Json& slots = field(*entry, "tensors");
    if (!step.is_number_integer() || step.get<std::int64_t>() < 0 || !slots.is_array()) {
      throw UserError(cat(kWhere, ": ", names[i]), cat("expected a step count and a list of tensors, got ", entry->dump()));
    }
    ParameterState& parameter = plan.parameters[i].emplace();
    parameter.step = step.get<std::int64_t>();
    for (const Json& slot : slots) {
      const std::string name = cat(names[i], ".", slot.is_string() ? slot.get<std::string>() : slot.dump());
      const Tensor* tensor = state.tensors.find(name);
      if (tensor == nullptr) throw UserError(cat(kWhere, ": ", name), "expected a tensor, got none");
      parameter.slots.set(slot.get<std::string>(), *tensor);
      used.insert(name);
    }
  }
  for (const auto& [name, entry] : saved.items()) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      throw UserError(cat(kWhere, ": ", name), "expected no such parameter: the model does not train one of that name");
    }
  }
  for (const auto& [name, tensor] : state.tensors) {
    if (!used.contains(name)) throw UserError(cat(kWhere, ": ", name), "expected no such tensor, got one");
  }
  access.load(plan, names);
}

}  // namespace oumi
