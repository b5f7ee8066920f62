#include "oumi/data/text/conversation_rows.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// The texts of the Alpaca authors' prompts.
constexpr const char* kAlpacaWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.";
constexpr const char* kAlpacaWithoutInput =
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.";

std::string keys_of(const Json& row) {
  std::vector<std::string> keys;
  for (const auto& [key, unused] : row.items()) keys.push_back(key);
  return "[" + join(keys, ", ") + "]";
}

const Json& field(const Json& row, const std::string& name, const std::string& origin) {
  if (!row.is_object()) throw UserError(origin, "expected an object, got " + json_type_name(row));
  const auto found = row.find(name);
  if (found == row.end())
    throw UserError(origin, "expected a column '" + name + "', got " + keys_of(row), "name the column in dataset_kwargs");
  return *found;
}

std::string text_field(const Json& row, const std::string& name, const std::string& origin) {
  const Json& value = field(row, name, origin);
  if (!value.is_string()) throw UserError(origin, "column '" + name + "': expected text, got " + json_type_name(value));
  return value.get<std::string>();
}

Conversation turns(std::string user, std::string assistant) {
  Conversation conversation;
  conversation.messages.push_back({.role = "user", .content = std::move(user)});
  conversation.messages.push_back({.role = "assistant", .content = std::move(assistant)});
  return conversation;
}

bool is_messages(const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& message) {
           return message.is_object() && message.contains("role") &&
                  (message.contains("content") || message.contains("tool_calls"));
         });
}

// Text of a column that may be a number: prompts and responses are taken for what they print as.
std::string printed_field(const Json& row, const std::string& name, const std::string& origin, bool empty_if_missing) {
  if (empty_if_missing && row.is_object() && (!row.contains(name) || row[name].is_null())) return "";
  const Json& value = field(row, name, origin);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  throw UserError(origin, "column '" + name + "': expected text, got " + json_type_name(value));
}

}  // namespace

std::string detect_text_sft_format(const Json& row, const std::string& origin) {
  if (!row.is_object()) throw UserError(origin, "expected an object, got " + json_type_name(row));
  if (row.contains("messages")) {
    if (is_messages(row["messages"])) return "oumi";
  } else if (row.contains("conversation")) {
    if (row["conversation"].is_object() && row["conversation"].contains("messages") &&
        is_messages(row["conversation"]["messages"]))
      return "conversations";
  } else if (row.contains("instruction") && row.contains("input") && row.contains("output")) {
    return "alpaca";
  }
  throw UserError(
      origin, "the format of its rows cannot be told from keys " + keys_of(row),
      "expected {messages: [{role, content}, ...]}, {conversation: {messages: [...]}} or {instruction, input, output}");
}

ConversationOf text_sft_rows(const std::string& format) {
  if (format == "oumi") return [](const Json& row, const std::string& origin) { return conversation_from_json(row, origin); };
  if (format == "conversations") {
    return [](const Json& row, const std::string& origin) {
      return conversation_from_json(field(row, "conversation", origin), origin);
    };
  }
  if (format != "alpaca") throw InternalError("format " + format);
  return [](const Json& row, const std::string& origin) {
    const std::string instruction = text_field(row, "instruction", origin), input = text_field(row, "input", origin);
    return turns(trim(instruction + "\n\n" + input), text_field(row, "output", origin));
  };
}

ConversationOf alpaca_rows(const AlpacaRowOptions& options) {
  return [options](const Json& row, const std::string& origin) {
    const std::string instruction = text_field(row, "instruction", origin);
    const bool has_input = row.contains("input") && !row["input"].is_null() && !text_field(row, "input", origin).empty();
    Conversation conversation =
        turns(has_input ? instruction + "\n\n### Input:\n" + text_field(row, "input", origin) : instruction,
              text_field(row, "output", origin));
    if (options.include_system_prompt) {
      conversation.messages.insert(conversation.messages.begin(),
                                   {.role = "system", .content = has_input ? kAlpacaWithInput : kAlpacaWithoutInput});
    }
    return conversation;
  };
}

ConversationOf prompt_response_rows(const PromptResponseColumns& columns) {
  return [columns](const Json& row, const std::string& origin) {
    Conversation conversation = turns(printed_field(row, columns.prompt, origin, columns.empty_if_missing), "");
    if (columns.response.empty())
      conversation.messages.pop_back();
    else
      conversation.messages.back().content = printed_field(row, columns.response, origin, columns.empty_if_missing);
    return conversation;
  };
}

ConversationOf messages_rows(const MessagesColumn& options) {
  return [options](const Json& row, const std::string& origin) {
    Json messages = field(row, options.column, origin);
    if (!messages.is_array())
      throw UserError(origin, "column '" + options.column + "': expected a list of messages, got " + json_type_name(messages));
    for (Json& message : messages) {
      if (!message.is_object()) continue;
      if (options.user_and_assistant_only) {
        const std::string role =
            message.contains("role") && message["role"].is_string() ? message["role"].get<std::string>() : "";
        if (role != "user" && role != "assistant")
          throw UserError(origin, "column '" + options.column + "': expected roles user and assistant, got '" + role + "'");
        if (message.contains("content") && message["content"].is_null()) message["content"] = "";
      }
    }
    Conversation conversation = conversation_from_json(Json{{"messages", std::move(messages)}}, origin);
    if (options.exclude_final_assistant_message && conversation.messages.back().role == "assistant")
      conversation.messages.pop_back();
    return conversation;
  };
}

ConversationOf sharegpt_rows(const std::string& column) {
  return [column](const Json& row, const std::string& origin) {
    const Json& turns_of_row = field(row, column, origin);
    if (!turns_of_row.is_array() || turns_of_row.empty())
      throw UserError(origin, "column '" + column + "': expected a list of {from, value}");
    Conversation conversation;
    for (const Json& turn : turns_of_row) {
      const std::string from = text_field(turn, "from", origin);
      if (from != "human" && from != "gpt")
        throw UserError(origin, "column '" + column + "': expected from: human or gpt, got '" + from + "'");
      conversation.messages.push_back(
          {.role = from == "human" ? "user" : "assistant", .content = text_field(turn, "value", origin)});
    }
    return conversation;
  };
}

ConversationOf dolly_rows(const DollyRowOptions& options) {
  const std::string prefix = options.use_new_fields ? "new-" : "original-";
  return [prefix](const Json& row, const std::string& origin) {
    const auto value = [&](const std::string& name) {
      const Json& cell = field(row, prefix + name, origin);
      if (!cell.is_object()) return text_field(row, prefix + name, origin);
      const Json& inner = field(cell, "value", origin);
      if (inner.is_array() && !inner.empty() && inner[0].is_string()) return inner[0].get<std::string>();
      return text_field(cell, "value", origin);
    };
    const std::string context = value("context");
    return turns(value("instruction") + (context.empty() ? "" : "\n\nContext: " + context), value("response"));
  };
}

}  // namespace oumi
