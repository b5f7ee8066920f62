#include "oumi/text/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oumi/base/error.h"

namespace oumi {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Conversation read(const std::string& text) { return conversation_from_json(Json::parse(text), "chats.jsonl, line 3"); }

std::string error_of(const std::string& text) {
  try {
    read(text);
  } catch (const UserError& error) {
    return describe(error);
  }
  return "no error";
}

const char* const kToolChat = R"({"messages": [
  {"role": "user", "content": "Weather?"},
  {"role": "assistant", "content": null, "tool_calls": [{"id": "a1", "function": {"name": "get", "arguments": {"city": "Zürich", "n": [1, 2]}}}]},
  {"role": "tool", "tool_call_id": "a1", "content": "sunny"},
  {"role": "assistant", "content": "Sunny.", "reasoning_content": "easy"}],
  "tools": [{"function": {"name": "get", "parameters": {"type": "object"}}}], "metadata": {"k": 1}, "conversation_id": "c7", "extra": 3})";

TEST(Conversation, ReadsToolsAndKeepsNullContent) {
  const Conversation chat = read(kToolChat);
  ASSERT_EQ(chat.messages.size(), 4u);
  EXPECT_FALSE(chat.messages[1].content.has_value());
  EXPECT_EQ(chat.messages[1].tool_calls[0]["type"], "function");
  // As json.dumps writes it.
  EXPECT_EQ(chat.messages[1].tool_calls[0]["function"]["arguments"], R"({"city": "Z\u00fcrich", "n": [1, 2]})");
  EXPECT_EQ(chat.tools[0]["type"], "function");
  EXPECT_TRUE(chat.has_tools());
  const Json written = conversation_to_json(chat);
  EXPECT_TRUE(written["messages"][1]["content"].is_null());
  EXPECT_FALSE(written["messages"][0].contains("tool_calls"));
  EXPECT_FALSE(written.contains("extra"));
  EXPECT_EQ(conversation_from_json(written, "again"), chat);
}

TEST(Conversation, GivesTemplatesTheFormTheyWant) {
  const Conversation chat = read(kToolChat);
  const Json dict = template_messages(chat, {.arguments_as_dict = true, .content_as_empty = true}, "o");
  EXPECT_EQ(dict[1]["content"], "");
  EXPECT_EQ(dict[1]["tool_calls"][0]["function"]["arguments"]["city"], "Zürich");
  const Json text = template_messages(chat, {.arguments_as_dict = false, .content_as_empty = false}, "o");
  EXPECT_TRUE(text[1]["content"].is_null());
  EXPECT_TRUE(text[1]["tool_calls"][0]["function"]["arguments"].is_string());
}

TEST(Conversation, JoinsTextParts) {
  const Conversation chat =
      read(R"({"messages": [{"role": "user", "content": [{"type": "text", "content": "a"}, {"type": "text", "text": "b"}]}]})");
  EXPECT_EQ(chat.messages[0].content, "a b");
}

TEST(Conversation, NamesRowAndPlace) {
  EXPECT_THAT(error_of(R"({"messages": []})"), AllOf(HasSubstr("[chats.jsonl, line 3]"), HasSubstr("at least one message")));
  EXPECT_THAT(error_of(R"({"chat": []})"), HasSubstr("expected a key 'messages'"));
  EXPECT_THAT(error_of("[1]"), HasSubstr("expected a conversation, got list"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]})"),
              HasSubstr("messages[1].role: expected system, user, assistant or tool, got str \"bot\""));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "assistant", "content": null, "tool_calls": []}]})"),
              HasSubstr("expected content or a non-empty list of tool_calls"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": 7}]})"),
              HasSubstr("messages[0].content: expected text, a list of parts or null, got int 7"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user", "content": [{"type": "image_url", "content": "u"}]}]})"),
              HasSubstr("images are not supported"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]})"),
              HasSubstr("arguments: is required"));
  const Conversation broken =
      read(R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]}]})");
  EXPECT_THROW(template_messages(broken, {}, "row"), UserError);
}

}  // namespace
}  // namespace oumi
