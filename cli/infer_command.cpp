// oumi-cpp infer: a chat on the terminal, or JSONL in and out.
#include <signal.h>
#include <unistd.h>

#include <iostream>

#include "cli/infer_batch.h"
#include "cli/process_memory.h"
#include "cli/train_commands.h"
#include "oumi/base/stop_signal.h"
#include "oumi/base/strings.h"
#include "oumi/config/inference_config.h"
#include "oumi/generation/text_generator.h"
#include "oumi/trainer/trained_language_model.h"

namespace oumi::cli {
namespace {

constexpr const char* kHelp =
    "/clear begins a new conversation, /exit (or Ctrl-D) ends; Ctrl-C stops an answer, and at the prompt the program\n";

// Messages so far; a system message, if any, is the first.
Json new_conversation(const std::optional<std::string>& system_prompt) {
  Json messages = Json::array();
  if (system_prompt) messages.push_back({{"role", "system"}, {"content", *system_prompt}});
  return messages;
}

int chat(TextGenerator& generator, const std::optional<std::string>& system_prompt) {
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) std::cerr << kHelp;
  generator.options().on_text = [](std::size_t, std::string_view piece) {
    std::cout << piece << std::flush;
    return requested_stop_signal() == 0;
  };
  Json messages = new_conversation(system_prompt);
  std::string line;
  std::size_t turn = 0;
  while (true) {
    if (terminal) std::cout << "> " << std::flush;
    if (!std::getline(std::cin, line)) break;
    const std::string command = trim(line);
    if (command.empty()) continue;
    if (command == "/exit" || command == "/quit") break;
    if (command == "/help") {
      std::cerr << kHelp;
      continue;
    }
    if (command == "/clear") {
      messages = new_conversation(system_prompt);
      continue;
    }
    messages.push_back({{"role", "user"}, {"content", line}});
    try {
      std::optional<StopSignalScope> stop_signals;  // in a pipe, a signal ends the program as everywhere
      if (terminal) stop_signals.emplace();
      const std::vector<Answer> answers = generator.chat(std::span(&messages, 1), turn);
      std::cout << std::endl;
      messages.push_back({{"role", "assistant"}, {"content", answers[0].text}});
      const int signal = requested_stop_signal();
      request_stop(0);
      if (signal != 0 && signal != SIGINT) return 128 + signal;
    } catch (const UserError& error) {
      // The conversation doesn't fit, or the template refuses it: the user at a terminal can do something about it.
      messages.erase(messages.size() - 1);
      if (!terminal) throw;
      std::cerr << describe(error) << "\n(/clear begins a new conversation)\n";
    }
    ++turn;
  }
  if (terminal) std::cout << '\n';
  return 0;
}

}  // namespace

int infer_command(const CommandLine& line) {
  choose_memory(FreedMemory::kStaysInHeap);
  const InferenceConfig config = load_inference_config({line.configs.begin(), line.configs.end()}, line.overrides);
  const std::optional<std::string> input = line.input.empty() ? config.input_path : line.input;
  const std::optional<std::string> output = line.output.empty() ? config.output_path : line.output;
  if (config.run.model.model_name.empty()) {
    throw UserError("model.model_name", "is required and missing",
                    "give a config with -c, or a model's folder or Hub name with --model");
  }
  if (input && !output)
    throw UserError("output_path", "expected a file for the answers with input_path, got none", "give --output FILE.jsonl");
  if (output && !input)
    throw UserError("input_path", "expected a file with conversations or prompts for output_path, got none",
                    "give --input FILE.jsonl");
  // Read first: a mistake in the file should not wait for gigabytes of weights.
  const std::vector<InferenceRow> rows =
      input ? read_inference_rows(*input, config.system_prompt) : std::vector<InferenceRow>();

  const TrainedLanguageModel loaded = load_trained_language_model(
      config.run, {.prefer_output_dir = config.is_training_config && !config.model_named_by_override});
  for (const std::string& notice : loaded.notices) std::cerr << notice << '\n';
  const std::optional<std::int32_t> eos = loaded.tokenizer->eos_id();
  TextGenerator generator(loaded.model, loaded.tokenizer,
                          {.generation = generation_options(config.generation, loaded.model->generation_config(),
                                                            loaded.model->config(), eos.value_or(-1)),
                           .stop_strings = config.generation.stop_strings.value_or(std::vector<std::string>{}),
                           .skip_special_tokens = config.generation.skip_special_tokens,
                           .chat_template_kwargs = config.run.model.chat_template_kwargs.value_or(Json::object())});
  if (!input) return chat(generator, config.system_prompt);
  const InferenceTotals totals =
      answer_rows(generator, rows, *output, {.with_prompt = !config.generation.exclude_prompt_from_response});
  std::cout << "answered " << totals.rows << " rows, " << totals.new_tokens << " new tokens, " << totals.tokens_per_second
            << " tokens/s; they are in " << *output << '\n';
  return 0;
}

}  // namespace oumi::cli
