#include "cli/config_command.h"

#include <cstdlib>
#include <ostream>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/scalars.h"
#include "oumi/config/support.h"

namespace oumi::cli {
namespace {

int world_size_of_environment() {
  const char* text = std::getenv("WORLD_SIZE");
  const auto parsed = text == nullptr ? std::nullopt : python_int(text);
  return parsed && *parsed > 0 && *parsed < 1'000'000 ? static_cast<int>(*parsed) : 1;
}

std::string count(double value) {
  return value == static_cast<std::int64_t>(value) ? cat(static_cast<std::int64_t>(value)) : python_repr(value);
}

}  // namespace

std::string check_report(const TrainingConfig& config, int world_size) {
  const TrainingParams& training = config.training;
  const double batch = static_cast<double>(training.per_device_train_batch_size) *
                       static_cast<double>(training.gradient_accumulation_steps) * world_size;
  std::string out = cat("model: ", config.model.model_name, "\n");
  out += cat("effective batch size: ", count(batch), " samples (", training.per_device_train_batch_size, " per rank x ",
             training.gradient_accumulation_steps, " micro-batches x ", world_size, world_size == 1 ? " rank)\n" : " ranks)\n");
  if (training.max_steps > 0) {
    out +=
        cat("length: ", training.max_steps, " updates, ", count(batch * static_cast<double>(training.max_steps)), " samples\n");
  } else {
    out += cat("length: ", count(training.num_train_epochs), training.num_train_epochs == 1 ? " epoch\n" : " epochs\n");
  }
  const std::vector<SupportNote> notes = support_notes(config);
  for (const SupportNote& note : notes) out += cat(support_word(note.kind), ": ", note.key, ": ", note.text, "\n");
  if (notes.empty()) out += "every setting is honoured\n";
  return out;
}

int config_show(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides, std::ostream& out) {
  out << to_yaml(load_config(files, overrides));
  return static_cast<int>(ExitCode::kDone);
}

int config_check(const std::vector<std::filesystem::path>& files, const std::vector<std::string>& overrides,
                 std::ostream& out) {
  const TrainingConfig config = load_config(files, overrides);
  out << check_report(config, world_size_of_environment());
  for (const SupportNote& note : support_notes(config)) {
    if (note.kind == SupportKind::kRefused) return static_cast<int>(ExitCode::kUser);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace oumi::cli
