#include "oumi/trainer/trainer_state.h"

#include "oumi/base/error.h"

namespace oumi {

Json TrainerState::to_json() const {
  return Json{
      {"best_global_step", best_global_step ? Json(*best_global_step) : Json()},
      {"best_metric", best_metric ? Json(*best_metric) : Json()},
      {"best_model_checkpoint", best_model_checkpoint.empty() ? Json() : Json(best_model_checkpoint)},
      {"epoch", epoch},
      {"eval_steps", eval_steps},
      {"global_step", global_step},
      {"is_hyper_param_search", false},
      {"is_local_process_zero", true},
      {"is_world_process_zero", true},
      {"log_history", log_history},
      {"logging_steps", logging_steps},
      {"max_steps", max_steps},
      {"num_input_tokens_seen", num_input_tokens_seen},
      {"num_train_epochs", num_train_epochs},
      {"save_steps", save_steps},
      {"stateful_callbacks", stateful_callbacks},
      {"total_flos", total_flos},
      {"train_batch_size", train_batch_size},
      {"trial_name", Json()},
      {"trial_params", Json()},
      {"oumi",
       {{"samples_seen", samples_seen},
        {"loss_sum_since_log", loss_sum_since_log},
        {"last_logged_step", last_logged_step},
        {"total_loss", total_loss},
        {"train_seconds", train_seconds},
        {"evaluation_pending", evaluation_pending}}},
  };
}

TrainerState TrainerState::from_json(const Json& json, const std::string& origin) {
  TrainerState state;
  const auto read = [&](const Json& object, const char* key, auto& target) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return;
    try {
      target = found->get<std::decay_t<decltype(target)>>();
    } catch (const Json::exception&) {
      throw UserError(origin,
                      std::string("key '") + key + "' has the wrong type: got " + json_type_name(*found) + " " + found->dump());
    }
  };
  if (!json.is_object()) throw UserError(origin, "expected a JSON object, got " + json_type_name(json));
  double best_metric = 0;
  std::int64_t best_step = 0;
  read(json, "epoch", state.epoch);
  read(json, "global_step", state.global_step);
  read(json, "max_steps", state.max_steps);
  read(json, "num_train_epochs", state.num_train_epochs);
  read(json, "train_batch_size", state.train_batch_size);
  read(json, "num_input_tokens_seen", state.num_input_tokens_seen);
  read(json, "total_flos", state.total_flos);
  read(json, "best_metric", best_metric);
  read(json, "best_global_step", best_step);
  read(json, "best_model_checkpoint", state.best_model_checkpoint);
  const auto has = [&](const char* key) { return json.contains(key) && !json[key].is_null(); };
  if (has("best_metric")) state.best_metric = best_metric;
  if (has("best_global_step")) state.best_global_step = best_step;
  if (has("log_history")) state.log_history = json["log_history"];
  if (has("stateful_callbacks")) state.stateful_callbacks = json["stateful_callbacks"];
  state.last_logged_step = state.global_step;
  if (has("oumi")) {
    const Json& own = json["oumi"];
    read(own, "samples_seen", state.samples_seen);
    read(own, "loss_sum_since_log", state.loss_sum_since_log);
    read(own, "last_logged_step", state.last_logged_step);
    read(own, "total_loss", state.total_loss);
    read(own, "train_seconds", state.train_seconds);
    read(own, "evaluation_pending", state.evaluation_pending);
  }
  return state;
}

}  // namespace oumi
