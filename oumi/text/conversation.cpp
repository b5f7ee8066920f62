#include "oumi/text/conversation.h"

#include <algorithm>
#include <array>

#include "oumi/base/error.h"
#include "oumi/base/json_depth.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kShape = "expected {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, ...]}";

[[noreturn]] void fail(const std::string& origin, const std::string& where, const std::string& what,
                       const std::string& hint = "") {
  throw UserError(origin, where + ": " + what, hint);
}

std::string shown(const Json& value) {
  constexpr std::size_t kLimit = 60;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kLimit) text = text.substr(0, kLimit) + "...";
  return json_type_name(value) + " " + text;
}

// Python's json.dumps: a space after "," and ":", and \u escapes.
std::string python_json(const Json& value) {
  std::string text;
  const char* separator = "";
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      text += separator + Json(key).dump(-1, ' ', true) + ": " + python_json(item);
      separator = ", ";
    }
    return "{" + text + "}";
  }
  if (value.is_array()) {
    for (const Json& item : value) {
      text += separator + python_json(item);
      separator = ", ";
    }
    return "[" + text + "]";
  }
  return value.dump(-1, ' ', true);
}

// A field that is text, null or absent.
std::optional<std::string> optional_text(const Json& object, const char* key, const std::string& origin,
                                         const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  if (!found->is_string()) fail(origin, where + "." + key, "expected text or null, got " + shown(*found));
  return found->get<std::string>();
}

std::string text_of_part(const Json& part, const std::string& origin, const std::string& where) {
  if (part.is_string()) return part.get<std::string>();
  const bool typed = part.is_object() && part.contains("type") && part["type"].is_string();
  const std::string type = typed ? part["type"].get<std::string>() : "";
  if (type.starts_with("image")) {
    fail(origin, where, "expected text, got a part of type '" + type + "': images are not supported",
         "vision-language models are not built");
  }
  if (type != "text") fail(origin, where, "expected a part {\"type\": \"text\", \"content\": \"...\"}, got " + shown(part));
  const char* key = part.contains("content") ? "content" : "text";
  if (!part.contains(key) || !part[key].is_string()) {
    fail(origin, where + "." + key, "expected text, got " + (part.contains(key) ? shown(part[key]) : std::string("nothing")));
  }
  return part[key].get<std::string>();
}

std::string text_of_parts(const Json& parts, const std::string& origin, const std::string& where) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i)
    text += (i > 0 ? " " : "") + text_of_part(parts[i], origin, cat(where, "[", i, "]"));
  return text;
}

Json tool_calls_of(const Json& calls, const std::string& origin, const std::string& where) {
  if (!calls.is_array()) fail(origin, where, "expected a list of tool calls, got " + shown(calls));
  Json result = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string at = cat(where, "[", i, "]");
    Json call = calls[i];
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) {
      fail(origin, at, "expected {\"id\", \"type\", \"function\": {\"name\", \"arguments\"}}, got " + shown(call));
    }
    if (!call.contains("type")) call["type"] = "function";
    Json& function = call["function"];
    if (!function.contains("name") || !function["name"].is_string())
      fail(origin, at + ".function.name", "expected the name of a function");
    if (!function.contains("arguments")) fail(origin, at + ".function.arguments", "is required and missing");
    // Kept as the text that a model wrote; some files hold the dict instead.
    Json& arguments = function["arguments"];
    if (arguments.is_object() || arguments.is_array()) arguments = python_json(arguments);
    if (!arguments.is_string())
      fail(origin, at + ".function.arguments", "expected JSON text, a dict or a list, got " + shown(arguments));
    result.push_back(std::move(call));
  }
  return result.empty() ? Json(nullptr) : result;
}

Json tools_of(const Json& tools, const std::string& origin) {
  if (!tools.is_array()) fail(origin, "tools", "expected a list of tool definitions, got " + shown(tools));
  Json result = Json::array();
  for (std::size_t i = 0; i < tools.size(); ++i) {
    Json tool = tools[i];
    const bool whole =
        tool.is_object() && tool.contains("function") && tool["function"].is_object() && tool["function"].contains("name");
    if (!whole)
      fail(origin, cat("tools[", i, "]"),
           "expected {\"type\": \"function\", \"function\": {\"name\", ...}}, got " + shown(tool));
    if (!tool.contains("type")) tool["type"] = "function";
    result.push_back(std::move(tool));
  }
  return result;
}

std::string role_of(const Json& value, const std::string& origin, const std::string& where) {
  constexpr std::array kRoles = {"system", "user", "assistant", "tool"};
  const auto role = value.find("role");
  if (role == value.end()) fail(origin, where, "expected a role, got " + shown(value), kShape);
  if (!role->is_string() || std::find(kRoles.begin(), kRoles.end(), role->get<std::string>()) == kRoles.end()) {
    fail(origin, where + ".role", "expected system, user, assistant or tool, got " + shown(*role));
  }
  return role->get<std::string>();
}

Message message_of(const Json& value, const std::string& origin, const std::string& where) {
  if (!value.is_object()) fail(origin, where, "expected a message {\"role\", \"content\"}, got " + shown(value));
  Message message;
  message.role = role_of(value, origin, where);
  message.id = optional_text(value, "id", origin, where);
  message.tool_call_id = optional_text(value, "tool_call_id", origin, where);
  message.reasoning_content = optional_text(value, "reasoning_content", origin, where);
  if (const auto calls = value.find("tool_calls"); calls != value.end() && !calls->is_null()) {
    message.tool_calls = tool_calls_of(*calls, origin, where + ".tool_calls");
  }
  const auto content = value.find("content");
  if (content == value.end() || content->is_null()) {
    if (message.tool_calls.is_null()) fail(origin, where, "expected content or a non-empty list of tool_calls, got neither");
  } else if (content->is_array()) {
    message.content = text_of_parts(*content, origin, where + ".content");
  } else if (content->is_string()) {
    message.content = content->get<std::string>();
  } else {
    fail(origin, where + ".content", "expected text, a list of parts or null, got " + shown(*content));
  }
  return message;
}

}  // namespace

bool Conversation::has_tools() const {
  if (!tools.is_null() && !tools.empty()) return true;
  return std::any_of(messages.begin(), messages.end(), [](const Message& message) { return !message.tool_calls.is_null(); });
}

Conversation conversation_from_json(const Json& value, const std::string& origin) {
  if (!value.is_object()) throw UserError(origin, "expected a conversation, got " + shown(value), kShape);
  const auto messages = value.find("messages");
  if (messages == value.end()) throw UserError(origin, "expected a key 'messages', got " + shown(value), kShape);
  if (!messages->is_array()) fail(origin, "messages", "expected a list, got " + shown(*messages), kShape);
  if (messages->empty()) fail(origin, "messages", "expected at least one message, got none");
  Conversation conversation;
  conversation.conversation_id = optional_text(value, "conversation_id", origin, "conversation");
  for (std::size_t i = 0; i < messages->size(); ++i)
    conversation.messages.push_back(message_of((*messages)[i], origin, cat("messages[", i, "]")));
  if (const auto metadata = value.find("metadata"); metadata != value.end() && !metadata->is_null()) {
    if (!metadata->is_object()) fail(origin, "metadata", "expected a dict, got " + shown(*metadata));
    conversation.metadata = *metadata;
  }
  if (const auto tools = value.find("tools"); tools != value.end() && !tools->is_null())
    conversation.tools = tools_of(*tools, origin);
  return conversation;
}

Json conversation_to_json(const Conversation& conversation) {
  Json result = Json::object();
  if (conversation.conversation_id) result["conversation_id"] = *conversation.conversation_id;
  result["messages"] = Json::array();
  for (const Message& message : conversation.messages) {
    Json entry = Json::object();
    if (message.id) entry["id"] = *message.id;
    if (message.content) entry["content"] = *message.content;
    entry["role"] = message.role;
    if (!message.tool_calls.is_null()) entry["tool_calls"] = message.tool_calls;
    if (message.tool_call_id) entry["tool_call_id"] = *message.tool_call_id;
    if (message.reasoning_content) entry["reasoning_content"] = *message.reasoning_content;
    if (!message.content) entry["content"] = nullptr;
    result["messages"].push_back(std::move(entry));
  }
  if (!conversation.metadata.empty()) result["metadata"] = conversation.metadata;
  if (!conversation.tools.is_null()) result["tools"] = conversation.tools;
  return result;
}

Json template_messages(const Conversation& conversation, const ToolCallForm& form, const std::string& origin) {
  Json messages = Json::array();
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    Json entry = Json::object();
    if (message.id) entry["id"] = *message.id;
    entry["role"] = message.role;
    entry["content"] = message.content ? Json(*message.content) : Json(nullptr);
    if (message.tool_call_id) entry["tool_call_id"] = *message.tool_call_id;
    if (message.reasoning_content) entry["reasoning_content"] = *message.reasoning_content;
    if (!message.tool_calls.is_null()) {
      Json calls = message.tool_calls;
      for (Json& call : calls) {
        if (!form.arguments_as_dict) break;
        Json& arguments = call["function"]["arguments"];
        const auto text = arguments.get<std::string>();
        if (too_deep_at(text))
          fail(origin, cat("messages[", i, "].tool_calls"),
               cat("expected arguments of at most ", kMaxJsonDepth, " levels, got more"));
        arguments = text.empty() ? Json::object() : Json::parse(text, nullptr, /*allow_exceptions=*/false);
        if (!arguments.is_object()) {
          fail(origin, cat("messages[", i, "].tool_calls: arguments of ", call["function"]["name"].get<std::string>()),
               "expected a JSON object, got " + text);
        }
      }
      entry["tool_calls"] = std::move(calls);
      if (form.content_as_empty && !message.content) entry["content"] = "";
    }
    messages.push_back(std::move(entry));
  }
  return messages;
}

}  // namespace oumi
