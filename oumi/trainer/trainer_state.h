// What a run has done so far: trainer_state.json, by the Hugging Face Trainer's keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oumi/base/json.h"

namespace oumi {

struct TrainerState {
  double epoch = 0;
  std::int64_t global_step = 0;  // updates done
  std::int64_t max_steps = 0;
  std::int64_t num_train_epochs = 0;
  std::int64_t logging_steps = 0, eval_steps = 0, save_steps = 0;
  std::int64_t train_batch_size = 0;
  std::int64_t num_input_tokens_seen = 0;
  std::int64_t samples_seen = 0;
  double total_flos = 0;
  std::optional<double> best_metric;
  std::optional<std::int64_t> best_global_step;
  std::string best_model_checkpoint;  // empty: none
  Json log_history = Json::array();
  Json stateful_callbacks = Json::object();

  // --- ours, beside HF's keys under "oumi" ---
  double loss_sum_since_log = 0;  // the logged loss is a mean over the updates since the last log
  std::int64_t last_logged_step = 0;
  double total_loss = 0;            // over all updates of the run
  double train_seconds = 0;         // of earlier processes of this run
  bool evaluation_pending = false;  // a stop arrived during evaluation: do it again on resume

  Json to_json() const;
  // Reads ours and HF's. Throws UserError naming `origin` and the key.
  static TrainerState from_json(const Json& json, const std::string& origin);
};

}  // namespace oumi
