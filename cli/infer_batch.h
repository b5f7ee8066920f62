// The files of `oumi-cpp infer`: conversations or prompts, one JSON object a line.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"
#include "oumi/generation/text_generator.h"

namespace oumi::cli {

struct InferenceRow {
  Json object;                   // the line
  std::optional<Json> messages;  // a conversation
  std::string prompt;            // otherwise
};

// {"messages": [...]} (Oumi's conversation), {"conversation": {"messages": [...]}}, or {"prompt": "..."}; other keys are kept.
// Conversations without a system message get `system_prompt`. Empty lines are passed over. Throws UserError naming file and
// line.
std::vector<InferenceRow> read_inference_rows(const std::filesystem::path& file,
                                              const std::optional<std::string>& system_prompt);

struct AnswerOptions {
  bool with_prompt = false;  // the answer to a prompt begins with the prompt
};

struct InferenceTotals {
  std::size_t rows = 0;
  std::int64_t new_tokens = 0;
  double tokens_per_second = 0;
};

// Writes each row with its answer: a message of the assistant at the end of a conversation, "response" beside a prompt.
// `output` is whole or absent. SIGINT and SIGTERM end it without a file.
InferenceTotals answer_rows(TextGenerator& generator, const std::vector<InferenceRow>& rows,
                            const std::filesystem::path& output, const AnswerOptions& options);

}  // namespace oumi::cli
