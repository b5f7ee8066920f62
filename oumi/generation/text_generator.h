// A language model with its tokenizer: text and conversations in, text out.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "oumi/generation/generate.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

struct TextGeneratorOptions {
  GenerationOptions generation;
  std::vector<std::string> stop_strings = {};  // end an answer and are not part of it
  bool skip_special_tokens = true;
  Json chat_template_kwargs = Json::object();
  // Called with pieces of text as they become certain; return false to end that answer. `sequence` counts the call's prompts.
  std::function<bool(std::size_t sequence, std::string_view piece)> on_text = {};
};

struct Answer {
  std::string text;
  std::int64_t prompt_tokens = 0, new_tokens = 0;
  StopReason reason = StopReason::kLength;  // kCallback for a stop string and for on_text
};

class TextGenerator {
 public:
  TextGenerator(LanguageModelPtr model, std::shared_ptr<const Tokenizer> tokenizer, TextGeneratorOptions options);

  // Continues texts, tokenised with the special tokens that the tokenizer adds around a text. Works through them
  // generation.batch_size at a time. `first` numbers the first prompt, for random numbers and errors.
  std::vector<Answer> complete(std::span<const std::string> prompts, std::size_t first = 0);

  // The assistant's answer to each conversation (a list of {role, content, ...}), by the chat template with its generation
  // prompt. Ends also at the token with which the template ends an assistant's turn.
  std::vector<Answer> chat(std::span<const Json> conversations, std::size_t first = 0);

  const Tokenizer& tokenizer() const noexcept { return *tokenizer_; }
  TextGeneratorOptions& options() noexcept { return options_; }

 private:
  std::vector<Answer> run(const std::vector<std::vector<std::int32_t>>& prompts, const GenerationOptions& generation,
                          std::size_t first);

  LanguageModelPtr model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  TextGeneratorOptions options_;
};

// The special token that follows what an assistant says in the chat template ("<|im_end|>", "<|eot_id|>"); -1 when there is
// none.
std::int32_t turn_end_token(const Tokenizer& tokenizer, const Json& chat_template_kwargs = Json::object());

}  // namespace oumi
