#include "oumi/optim/torch_state.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/full.h>

#include <unordered_map>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/optim/state_access.h"

namespace oumi {
namespace {

using c10::IValue;

const char* const kOptimizerFile = "optimizer.pt";
const char* const kSchedulerFile = "scheduler.pt";

c10::impl::GenericDict string_dict() { return c10::impl::GenericDict(c10::StringType::get(), c10::AnyType::get()); }
c10::impl::GenericList any_list() { return c10::impl::GenericList(c10::AnyType::get()); }

[[noreturn]] void bad(const std::string& where, const std::string& what, const std::string& expected, const IValue* got) {
  throw UserError(where, cat(what, ": expected ", expected, ", got ", got == nullptr ? "none" : got->tagKind()));
}

// A member of a dict with string keys; nullptr when absent.
std::optional<IValue> find(const IValue& dict, const std::string& key) {
  const auto entries = dict.toGenericDict();
  const auto found = entries.find(IValue(key));
  if (found == entries.end()) return std::nullopt;
  return found->value();
}

IValue member(const IValue& dict, const std::string& key, const std::string& where) {
  if (!dict.isGenericDict()) bad(where, cat("what holds '", key, "'"), "a dict", &dict);
  const auto found = find(dict, key);
  if (!found) bad(where, cat("'", key, "'"), "a value", nullptr);
  return *found;
}

// Numbers as Python has them: int, float, or a tensor of one element.
std::optional<double> as_number(const IValue& value) {
  if (value.isDouble()) return value.toDouble();
  if (value.isInt()) return static_cast<double>(value.toInt());
  if (value.isTensor() && value.toTensor().defined() && value.toTensor().numel() == 1) return value.toTensor().item<double>();
  return std::nullopt;
}

Json json_of(const IValue& value, const std::string& where) {
  if (value.isNone()) return nullptr;
  if (value.isBool()) return value.toBool();
  if (value.isInt()) return value.toInt();
  if (const auto number = as_number(value)) return number_to_json(*number);
  if (value.isString()) return value.toStringRef();
  if (value.isList() || value.isTuple()) {
    Json list = Json::array();
    if (value.isList()) {
      for (const IValue& element : value.toListRef()) list.push_back(json_of(element, where));
    } else {
      for (const IValue& element : value.toTupleRef().elements()) list.push_back(json_of(element, where));
    }
    return list;
  }
  if (value.isGenericDict()) {
    Json dict = Json::object();
    for (const auto& entry : value.toGenericDict()) {
      if (!entry.key().isString()) bad(where, "a dict's key", "str", &entry.key());
      dict[entry.key().toStringRef()] = json_of(entry.value(), where);
    }
    return dict;
  }
  bad(where, "a field", "numbers, text, lists or dicts", &value);
}

IValue ivalue_of(const Json& value) {
  if (value.is_null()) return {};
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number() || value == "inf" || value == "-inf" || value == "nan") return number_from_json(value, "");
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    auto list = any_list();
    for (const Json& element : value) list.push_back(ivalue_of(element));
    return list;
  }
  auto dict = string_dict();
  for (const auto& [key, element] : value.items()) dict.insert(key, ivalue_of(element));
  return dict;
}

// Settings that PyTorch wants in a group beside those that we have: what its constructor sets.
Json constant_settings(const std::string& kind) {
  if (kind == "adam" || kind == "adamw") {
    return {{"maximize", false},       {"foreach", nullptr}, {"capturable", false},
            {"differentiable", false}, {"fused", true},      {"decoupled_weight_decay", kind == "adamw"}};
  }
  if (kind == "sgd" || kind == "adagrad") {
    return {{"maximize", false}, {"foreach", nullptr}, {"differentiable", false}, {"fused", nullptr}};
  }
  if (kind == "rmsprop") {
    return {{"capturable", false}, {"foreach", nullptr}, {"maximize", false}, {"differentiable", false}};
  }
  return Json::object();
}

// A pair such as betas is a tuple in Python, any other value as it is.
IValue setting_value(const Json& value) {
  if (!value.is_array()) return ivalue_of(value);
  std::vector<IValue> elements;
  for (const Json& element : value) elements.push_back(ivalue_of(element));
  return c10::ivalue::Tuple::create(std::move(elements));
}

IValue step_value(const StateAccess& access, std::int64_t step) {
  if (access.kind() == "adafactor") return step;
  return at::full({}, static_cast<double>(step), at::TensorOptions().dtype(at::kFloat));
}

// Group fields of the file against what this optimizer needs.
Json settings_of(const IValue& group, const Json& wanted, const std::string& where) {
  Json settings = Json::object();
  for (const auto& [key, value] : wanted.items()) settings[key] = json_of(member(group, key, where), where);
  return settings;
}

double number_member(const IValue& group, const std::string& key, const std::string& where) {
  const IValue value = member(group, key, where);
  const auto number = as_number(value);
  if (!number) bad(where, cat("'", key, "'"), "float", &value);
  return *number;
}

ParameterState parameter_state(const IValue& entry, const StateAccess& access, const std::string& name) {
  const std::string where = cat(kOptimizerFile, ": ", name);
  if (!entry.isGenericDict()) bad(where, "the parameter's state", "a dict", &entry);
  ParameterState state;
  // SGD counts no steps: its buffer's presence says that there was a first one.
  state.step = 1;
  if (access.counts_steps()) {
    const double step = number_member(entry, "step", where);
    if (!(step >= 0 && step < 9e15)) throw UserError(where, cat("'step': expected a count, got ", step));
    state.step = static_cast<std::int64_t>(step);
  }
  for (const auto& item : entry.toGenericDict()) {
    if (!item.key().isString()) bad(where, "a key of the parameter's state", "str", &item.key());
    const std::string& slot = item.key().toStringRef();
    if (slot == "step" || slot == "RMS" || item.value().isNone()) continue;  // RMS: Adafactor computes it anew at each step
    if (slot == "qmap1" || slot == "qmap2") continue;  // bitsandbytes writes its maps, which are constants
    const IValue value = item.value();
    if (!value.isTensor()) bad(where, cat("'", slot, "'"), "a tensor", &value);
    state.slots.set(slot, value.toTensor());
  }
  return state;
}

// The file's index of each parameter of a group.
std::vector<std::int64_t> group_indices(const IValue& group, std::size_t expected, const std::string& where) {
  const IValue list = member(group, "params", where);
  if (!list.isList()) bad(where, "'params'", "a list of ints", &list);
  std::vector<std::int64_t> indices;
  for (const IValue& index : list.toListRef()) {
    if (!index.isInt()) bad(where, "an entry of 'params'", "int", &index);
    indices.push_back(index.toInt());
  }
  if (indices.size() != expected) {
    throw UserError(where, cat("expected the ", expected, " parameters that the model has in this group, got ", indices.size()),
                    "the model, its frozen layers or its weight-decay groups differ from those of the saved run");
  }
  return indices;
}

}  // namespace

IValue to_torch_optimizer_state(const torch::optim::Optimizer& optimizer) {
  const StateAccess access(const_cast<torch::optim::Optimizer&>(optimizer));  // reads only
  c10::impl::GenericDict state(c10::IntType::get(), c10::AnyType::get());
  for (std::size_t i = 0; i < access.parameters().size(); ++i) {
    const auto found = access.read(access.parameters()[i]);
    if (!found || (!access.counts_steps() && found->slots.empty())) continue;
    auto entry = string_dict();
    if (access.counts_steps()) entry.insert("step", step_value(access, found->step));
    for (const auto& [slot, tensor] : found->slots) entry.insert(slot, tensor);
    state.insert(static_cast<std::int64_t>(i), entry);
  }
  const Json settings = access.hyperparameters();
  const Json constants = constant_settings(access.kind());
  auto groups = any_list();
  std::int64_t index = 0;
  for (std::size_t i = 0; i < optimizer.param_groups().size(); ++i) {
    const auto& group = optimizer.param_groups()[i];
    auto entry = string_dict();
    entry.insert("lr", group.options().get_lr());
    for (const auto& [key, value] : settings.items()) entry.insert(key, setting_value(value));
    entry.insert("weight_decay", access.weight_decay(i));
    for (const auto& [key, value] : constants.items()) entry.insert(key, ivalue_of(value));
    auto indices = any_list();
    for (std::size_t j = 0; j < group.params().size(); ++j) indices.push_back(IValue(index++));
    entry.insert("params", indices);
    groups.push_back(entry);
  }
  auto result = string_dict();
  result.insert("state", state);
  result.insert("param_groups", groups);
  return result;
}

void load_torch_optimizer_state(torch::optim::Optimizer& optimizer, const std::vector<std::string>& names, const IValue& file) {
  StateAccess access(optimizer);
  if (access.parameters().size() != names.size()) {
    throw InternalError(cat("the optimizer has ", access.parameters().size(), " parameters, got ", names.size(), " names"));
  }
  const IValue groups = member(file, "param_groups", kOptimizerFile);
  if (!groups.isList()) bad(kOptimizerFile, "'param_groups'", "a list", &groups);
  const std::size_t group_count = optimizer.param_groups().size();
  if (groups.toListRef().size() != group_count) {
    throw UserError(kOptimizerFile, cat("expected ", group_count, " parameter groups, got ", groups.toListRef().size()));
  }
  LoadPlan plan;
  const Json wanted = access.hyperparameters();
  std::unordered_map<std::int64_t, std::size_t> position;  // the file's index -> ours
  for (std::size_t i = 0; i < group_count; ++i) {
    const std::string where = cat(kOptimizerFile, ": parameter group ", i);
    const IValue& group = groups.toListRef()[i];
    Json settings = settings_of(group, wanted, where);
    if (i > 0 && settings != plan.hyperparameters) {
      throw UserError(where, cat("expected the settings of group 0, ", plan.hyperparameters.dump(), ", got ", settings.dump()));
    }
    plan.hyperparameters = std::move(settings);
    plan.groups.push_back({number_member(group, "lr", where), number_member(group, "weight_decay", where)});
    for (const std::int64_t index : group_indices(group, optimizer.param_groups()[i].params().size(), where)) {
      if (!position.try_emplace(index, position.size()).second) {
        throw UserError(where, cat("parameter ", index, ": expected it once, got it twice"));
      }
    }
  }
  const IValue state = member(file, "state", kOptimizerFile);
  if (!state.isGenericDict()) bad(kOptimizerFile, "'state'", "a dict", &state);
  plan.parameters.resize(names.size());
  for (const auto& entry : state.toGenericDict()) {
    if (!entry.key().isInt()) bad(kOptimizerFile, "a key of 'state'", "int", &entry.key());
    const auto found = position.find(entry.key().toInt());
    if (found == position.end()) {
      throw UserError(kOptimizerFile, cat("state of parameter ", entry.key().toInt(), ": expected one that a group has"));
    }
    plan.parameters[found->second] = parameter_state(entry.value(), access, names[found->second]);
  }
  access.load(plan, names);
}

IValue to_torch_scheduler_state(const LrScheduler& scheduler) {
  const Json state = scheduler.state_dict();
  auto result = string_dict();
  for (const auto& [key, value] : state.items()) {
    if (key == "type") continue;
    if (key == "_last_lr" && !scheduler.needs_metric()) {
      result.insert("_is_initial", false);
      result.insert("_get_lr_called_within_step", false);
    }
    result.insert(key, ivalue_of(value));
  }
  if (!scheduler.needs_metric()) {
    // One entry a group: the attributes of the function object, which has none, or None for a plain function.
    auto lambdas = any_list();
    for (std::size_t i = 0; i < state.at("base_lrs").size(); ++i) {
      lambdas.push_back(scheduler.options().type == "constant" ? IValue() : IValue(string_dict()));
    }
    result.insert("lr_lambdas", lambdas);
  }
  return result;
}

void load_torch_scheduler_state(LrScheduler& scheduler, const IValue& file) {
  if (!file.isGenericDict()) bad(kSchedulerFile, "the state", "a dict", &file);
  Json state = json_of(file, kSchedulerFile);
  state["type"] = scheduler.options().type;  // the file does not say
  scheduler.load_state_dict(state);
}

}  // namespace oumi
