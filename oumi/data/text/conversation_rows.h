// How rows of the datasets that Oumi knows become conversations.
#pragma once

#include <string>

#include "oumi/data/text/encode.h"

namespace oumi {

// text_sft: "oumi" ({messages, ...}), "conversations" ({conversation: {messages}}) or "alpaca" ({instruction, input, output}:
// the user says instruction and input, a blank line between; no system message).
ConversationOf text_sft_rows(const std::string& format);

// The format of `row`, by its keys. Throws UserError naming `origin`, with all that are known.
std::string detect_text_sft_format(const Json& row, const std::string& origin);

// {instruction, input?, output} with Alpaca's system prompts, which differ with and without an input.
struct AlpacaRowOptions {
  bool include_system_prompt = true;
};
ConversationOf alpaca_rows(const AlpacaRowOptions& options);

// A column for the user's turn and one for the assistant's; without the latter there is only the former.
struct PromptResponseColumns {
  std::string prompt = "instruction";
  std::string response = "output";
  bool empty_if_missing = false;  // null or absent text counts as ""
};
ConversationOf prompt_response_rows(const PromptResponseColumns& columns);

// A column with a list of {role, content}.
struct MessagesColumn {
  std::string column = "messages";
  bool exclude_final_assistant_message = false;
  bool user_and_assistant_only = false;
};
ConversationOf messages_rows(const MessagesColumn& options);

// A column with a list of {from: human|gpt, value}.
ConversationOf sharegpt_rows(const std::string& column);

// argilla/databricks-dolly-15k-curated-en.
struct DollyRowOptions {
  bool use_new_fields = true;
};
ConversationOf dolly_rows(const DollyRowOptions& options);

}  // namespace oumi
