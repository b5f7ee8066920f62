// Conversations and documents -> token ids and labels, on all cores.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "oumi/data/text/rows.h"
#include "oumi/data/text/text_context.h"
#include "oumi/data/text/token_file.h"
#include "oumi/text/conversation.h"

namespace oumi {

// Reads a row as a conversation. Called from several threads at once; throws UserError naming `origin`.
using ConversationOf = std::function<Conversation(const Json& row, const std::string& origin)>;

struct ChatEncodeOptions {
  bool add_generation_prompt = false;
  // Train on the assistant's turns alone: by the template's {% generation %} spans where it has them, else by these two.
  bool assistant_only = false;
  std::string response_template;
  std::string instruction_template;
};

class ChatEncoder {
 public:
  // Throws UserError naming `key`: no tokenizer or template, or no way to tell the assistant's turns.
  ChatEncoder(TextContext context, ChatEncodeOptions options, const std::string& key);

  EncodedRow encode(const Conversation& conversation, const std::string& origin) const;
  std::vector<EncodedRow> encode(const std::vector<TextRow>& rows, const ConversationOf& conversation_of) const;
  // The rendered text.
  std::string render(const Conversation& conversation, const std::string& origin) const;

  // Everything beside the rows that the result depends on.
  std::string fingerprint() const;

 private:
  RenderedChat rendered(const Conversation& conversation, const std::string& origin) const;
  EncodedRow finish(Encoding encoding, const RenderedChat& chat) const;

  TextContext context_;
  ChatEncodeOptions options_;
  bool by_spans_ = false;
  TurnMaskOptions prefixes_;
  ToolCallForm tool_form_;
};

// The form of tool calls that `chat` renders without losing or escaping the arguments; arguments as a dict and content "" when
// none does. Renders a small conversation up to four times.
ToolCallForm detect_tool_call_form(const ChatTemplate& chat);

// Documents as they are: special tokens around each; what is longer than max_length is cut between them, on the tokenizer's
// truncation_side, as Transformers' tokenizers do.
struct DocumentEncodeOptions {
  bool add_special_tokens = true;
  std::optional<std::int64_t> max_length = std::nullopt;
};
std::vector<EncodedRow> encode_documents(const std::vector<TextRow>& rows, const std::string& column,
                                         const Tokenizer& tokenizer, const DocumentEncodeOptions& options);

// Calls visit(i) for each i of [0, count) on all cores. The error of the lowest i is thrown.
void for_each_parallel(std::size_t count, const std::function<void(std::size_t)>& visit);

}  // namespace oumi
