// Oumi's Conversation and Message: what a row of a chat dataset holds, and what a chat template is rendered with. Torch-free.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

// One message. A message without content is one that only calls tools.
struct Message {
  std::optional<std::string> id = std::nullopt;
  std::string role;                                   // system, user, assistant or tool
  std::optional<std::string> content = std::nullopt;  // several text parts are joined by a space
  Json tool_calls = nullptr;  // list of {id, type, function: {name, arguments: JSON text}}; null when there are none
  std::optional<std::string> tool_call_id = std::nullopt;
  std::optional<std::string> reasoning_content = std::nullopt;

  bool operator==(const Message&) const = default;
};

struct Conversation {
  std::optional<std::string> conversation_id = std::nullopt;
  std::vector<Message> messages;
  Json metadata = Json::object();
  Json tools = nullptr;  // list of {type, function: {name, description, parameters}}; null when there are none

  bool has_tools() const;  // tool definitions, or a message that calls one
  bool operator==(const Conversation&) const = default;
};

// Reads {conversation_id?, messages, metadata?, tools?}; other keys are passed over. `origin` ("chats.jsonl, line 3") names the
// row in errors. Throws UserError: no messages, an unknown role, content that is neither text nor a list of text parts (images
// need a vision-language model), content null without tool_calls, malformed tool calls.
Conversation conversation_from_json(const Json& value, const std::string& origin);

// As Oumi writes it: unset fields are left out, but a message that only calls tools keeps `content: null`.
Json conversation_to_json(const Conversation& conversation);

// How a chat template wants tool calls: arguments as a dict or as JSON text, and missing content as "" or as null.
struct ToolCallForm {
  bool arguments_as_dict = true;
  bool content_as_empty = true;

  bool operator==(const ToolCallForm&) const = default;
};

// The messages as a chat template is given them. Throws UserError naming `origin` when arguments_as_dict is asked for and the
// arguments of a call are no JSON object.
Json template_messages(const Conversation& conversation, const ToolCallForm& form, const std::string& origin);

}  // namespace oumi
