#include "oumi/data/text/preferences.h"

#include <ATen/ops/scalar_tensor.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/function_dataset.h"
#include "oumi/data/text/token_dataset.h"
#include "oumi/text/conversation.h"

namespace oumi {
namespace {

const Json& field(const Json& row, const char* name, const std::string& origin) {
  if (!row.is_object() || !row.contains(name))
    throw UserError(origin, cat("expected a record with '", name, "', got ", row.is_object() ? "none" : json_type_name(row)));
  return row[name];
}

// Text, a message or a list of messages, as messages.
Json messages_of(const Json& turn, const char* role, const std::string& origin) {
  Json messages = turn.is_string()   ? Json::array({{{"role", role}, {"content", turn}}})
                  : turn.is_object() ? Json::array({turn})
                                     : turn;
  if (!messages.is_array()) throw UserError(origin, "expected text or messages, got " + json_type_name(turn));
  return template_messages(conversation_from_json(Json{{"messages", std::move(messages)}}, origin), {}, origin);
}

TokenIds encoded(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {.add_special_tokens = false});
}

Tensor ids_tensor(const TokenIds& ids) { return token_sample(ids, {}).at("input_ids"); }

void check_context(const TextContext& context, const std::string& key) {
  if (context.tokenizer->chat_template().empty())
    throw UserError("model.chat_template", "preferences need a chat template, and the tokenizer has none (" + key + ")");
}

}  // namespace

DatasetPtr dpo_dataset(std::vector<TextRow> rows, TextContext context, const std::string& key, const std::string& name) {
  check_context(context, key);
  const auto size = static_cast<std::int64_t>(rows.size());
  return std::make_shared<FunctionDataset>(
      size,
      [rows = std::move(rows), context = std::move(context)](std::int64_t index) {
        const TextRow& row = rows[static_cast<std::size_t>(index)];
        const std::string origin = row.origin();
        const Json record = row.json();
        const Json prompt = messages_of(field(record, "prompt", origin), "user", origin);
        const ChatTemplate& chat = context.tokenizer->chat();
        const std::string prompt_text = chat.render(prompt).text;
        Sample sample;
        sample.set("prompt_ids", ids_tensor(encoded(*context.tokenizer, prompt_text)));
        for (const char* answer : {"chosen", "rejected"}) {
          Json messages = prompt;
          for (const Json& message : messages_of(field(record, answer, origin), "assistant", origin))
            messages.push_back(message);
          const std::string text = chat.render(messages).text;
          TokenIds ids = encoded(*context.tokenizer, text.substr(std::min(prompt_text.size(), text.size())));
          if (context.tokenizer->eos_id()) ids.push_back(*context.tokenizer->eos_id());
          sample.set(cat(answer, "_ids"), ids_tensor(ids));
        }
        return sample;
      },
      name);
}

DatasetPtr kto_dataset(std::vector<TextRow> rows, TextContext context, const std::string& key, const std::string& name) {
  (void)key;
  const auto size = static_cast<std::int64_t>(rows.size());
  return std::make_shared<FunctionDataset>(
      size,
      [rows = std::move(rows), context = std::move(context)](std::int64_t index) {
        const TextRow& row = rows[static_cast<std::size_t>(index)];
        const std::string origin = row.origin();
        const Json record = row.json();
        const Json& prompt = field(record, "prompt", origin);
        const Json& label = field(record, "label", origin);
        if (!prompt.is_string()) throw UserError(origin, "prompt: expected text, got " + json_type_name(prompt));
        if (!label.is_boolean()) throw UserError(origin, "label: expected true or false, got " + json_type_name(label));
        std::string completion;
        if (const Json& given = field(record, "completion", origin); given.is_string()) {
          completion = given.get<std::string>();
        } else {
          const Json messages = messages_of(given, "assistant", origin);
          for (const Json& message : messages) {
            if (message.at("role") == "assistant")
              completion = message.at("content").is_string() ? message.at("content").get<std::string>() : "";
          }
        }
        Sample sample;
        sample.set("prompt_ids", ids_tensor(encoded(*context.tokenizer, prompt.get<std::string>())));
        sample.set("completion_ids", ids_tensor(encoded(*context.tokenizer, completion)));
        sample.set("label", at::scalar_tensor(label.get<bool>(), at::TensorOptions(c10::kBool)));
        return sample;
      },
      name);
}

}  // namespace oumi
