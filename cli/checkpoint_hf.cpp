#include "cli/checkpoint_hf.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/models/pretrained.h"
#include "oumi/optim/optimizer.h"
#include "oumi/optim/torch_state.h"

namespace oumi::cli {
namespace fs = std::filesystem;

std::vector<fs::path> write_hf_optimizer(const fs::path& checkpoint, const fs::path& output) {
  check_resume_checkpoint(checkpoint);
  for (const char* name : {"optimizer.json", "optimizer.safetensors", "scheduler.json"}) {
    if (!fs::exists(checkpoint / name))
      throw UserError(checkpoint.string(), std::string("holds no optimizer state: ") + name + " is missing",
                      "was it saved with save_only_model?");
  }
  const OptimizerState state{load_safetensors(checkpoint / "optimizer.safetensors"),
                             read_json_file(checkpoint / "optimizer.json")};
  const StateDict weights = load_weights(checkpoint);

  // An optimizer over the saved weights, brought to the saved state: it knows PyTorch's layout.
  const std::string origin = (checkpoint / "optimizer.json").string();
  std::vector<ParameterGroup> groups;
  std::vector<std::string> names;
  OptimizerOptions options;
  try {
    options.name = state.scalars.at("optimizer").get<std::string>();
    for (const Json& saved : state.scalars.at("groups")) {
      ParameterGroup& group = groups.emplace_back();
      group.weight_decay = saved.at("weight_decay").get<double>();
      group.learning_rate = saved.at("lr").get<double>();
      for (const Json& entry : saved.at("params")) {
        names.push_back(entry.get<std::string>());
        const Tensor* weight = weights.find(names.back());
        if (weight == nullptr)
          throw UserError(checkpoint.string(), "the optimizer's parameter '" + names.back() + "' is not among the weights");
        group.parameters.emplace_back(names.back(), Tensor(*weight).set_requires_grad(true));
      }
    }
  } catch (const Json::exception& error) {
    throw UserError(origin, std::string("not an optimizer's state: ") + error.what());
  }
  const auto optimizer = make_optimizer(options, groups);
  load_optimizer_state(*optimizer, names, state);

  // The schedule's curve is not needed to tell where it stands, and its options are not in the file.
  Json saved = read_json_file(checkpoint / "scheduler.json");
  if (!saved.is_object() || !saved.contains("type") || !saved["type"].is_string())
    throw UserError((checkpoint / "scheduler.json").string(), "key 'type': expected str, got none");
  const std::string type = saved["type"].get<std::string>();
  const bool follows_metric = type == "reduce_lr_on_plateau" || type == "greedy";
  if (!follows_metric && type != "constant") saved["type"] = "linear";
  LrScheduler scheduler(*optimizer, {.type = saved["type"].get<std::string>(), .total_steps = 1});
  scheduler.load_state_dict(saved);
  const c10::IValue scheduler_state = to_torch_scheduler_state(scheduler);
  if (!follows_metric && saved.contains("_last_lr")) {
    c10::impl::GenericList rates(c10::AnyType::get());
    for (const Json& rate : saved["_last_lr"]) rates.push_back(rate.get<double>());
    scheduler_state.toGenericDict().insert_or_assign("_last_lr", rates);
  }
  // The constructor of the schedule has set rates of its own.
  load_optimizer_state(*optimizer, names, state);

  make_directories(output);
  write_torch_file(output / "optimizer.pt", to_torch_optimizer_state(*optimizer));
  write_torch_file(output / "scheduler.pt", scheduler_state);
  return {output / "optimizer.pt", output / "scheduler.pt"};
}

}  // namespace oumi::cli
