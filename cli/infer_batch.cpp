#include "cli/infer_batch.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::array<const char*, 5> kRoles = {"system", "user", "assistant", "tool", "developer"};

void check_messages(const Json& messages, const std::string& place) {
  if (!messages.is_array() || messages.empty())
    throw UserError(place, "expected a list of messages, got " +
                               std::string(messages.is_array() ? "an empty one" : json_type_name(messages)));
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const std::string name = cat("messages[", i, "]");
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      throw UserError(place, name + ": expected a dict with 'role' and 'content', got " + json_type_name(message));
    const std::string role = message["role"];
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
      throw UserError(place, name + ": unknown role '" + role + "'", suggestion(role, {kRoles.begin(), kRoles.end()}));
    }
    const Json content = message.value("content", Json(nullptr));
    const bool calls = message.contains("tool_calls") && !message["tool_calls"].empty();
    if (!content.is_string() && !content.is_array() && !(content.is_null() && calls))
      throw UserError(place, name + ": expected content of type str, got " + json_type_name(content));
  }
}

InferenceRow read_row(Json object, const std::string& place, const std::optional<std::string>& system_prompt) {
  if (!object.is_object())
    throw UserError(place, "expected a JSON object, got " + json_type_name(object),
                    "one object a line: {\"messages\": [...]} or {\"prompt\": \"...\"}");
  InferenceRow row{.object = std::move(object), .messages = std::nullopt, .prompt = ""};
  const Json& line = row.object;
  if (line.contains("prompt") && line["prompt"].is_string()) {
    row.prompt = line["prompt"];
    return row;
  }
  if (line.contains("messages"))
    row.messages = line["messages"];
  else if (line.contains("conversation") && line["conversation"].is_object())
    row.messages = line["conversation"].value("messages", Json(nullptr));
  else
    throw UserError(
        place, "expected 'messages', 'conversation' or 'prompt' (str), got keys [" + [&] {
          std::vector<std::string> keys;
          for (const auto& [key, value] : line.items()) keys.push_back(key);
          return join(keys, ", ");
        }() + "]");
  check_messages(*row.messages, place);
  if (system_prompt && (*row.messages)[0]["role"] != "system")
    row.messages->insert(row.messages->begin(), Json{{"role", "system"}, {"content", *system_prompt}});
  return row;
}

Json with_answer(const InferenceRow& row, const Answer& answer, const AnswerOptions& options) {
  Json object = row.object;
  if (!row.messages) {
    object["response"] = options.with_prompt ? row.prompt + answer.text : answer.text;
    return object;
  }
  Json messages = *row.messages;
  messages.push_back({{"role", "assistant"}, {"content", answer.text}});
  (object.contains("messages") ? object : object["conversation"])["messages"] = std::move(messages);
  return object;
}

// Lines under a temporary name until they are all there.
class JsonLines {
 public:
  explicit JsonLines(fs::path path) : path_(std::move(path)), temporary_(path_.string() + cat(".tmp-", ::getpid())) {
    if (path_.has_parent_path()) make_directories(path_.parent_path());
    out_.open(temporary_, std::ios::binary);
    if (!out_) throw_file_error(path_, "cannot be written");
  }
  ~JsonLines() {
    std::error_code ignored;
    if (!done_) fs::remove(temporary_, ignored);
  }
  JsonLines(const JsonLines&) = delete;
  JsonLines& operator=(const JsonLines&) = delete;

  void write(const Json& object) {
    if (!(out_ << object.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n'))
      throw_file_error(path_, "cannot be written");
  }
  void close() {
    out_.close();
    if (!out_) throw_file_error(path_, "cannot be written");
    fsync_path(temporary_);
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) throw EnvironmentError(path_.string(), "cannot be replaced: " + error.message());
    done_ = true;
  }

 private:
  fs::path path_, temporary_;
  std::ofstream out_;
  bool done_ = false;
};

}  // namespace

std::vector<InferenceRow> read_inference_rows(const fs::path& file, const std::optional<std::string>& system_prompt) {
  const std::string text = read_text_file(file);
  std::vector<InferenceRow> rows;
  std::size_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    const std::string place = cat(file.string(), ":", number);
    rows.push_back(read_row(parse_json(line, place), place, system_prompt));
  }
  if (rows.empty()) throw UserError(file.string(), "expected at least one row, got none");
  return rows;
}

InferenceTotals answer_rows(TextGenerator& generator, const std::vector<InferenceRow>& rows, const fs::path& output,
                            const AnswerOptions& options) {
  JsonLines lines(output);
  InferenceTotals totals;
  const auto started = std::chrono::steady_clock::now();
  const auto batch = static_cast<std::size_t>(generator.options().generation.batch_size);
  for (std::size_t begin = 0; begin < rows.size();) {
    // Conversations and prompts are tokenised differently, so a batch holds one kind.
    std::vector<Json> conversations;
    std::vector<std::string> prompts;
    std::size_t end = begin;
    for (; end < rows.size() && end - begin < batch && rows[end].messages.has_value() == rows[begin].messages.has_value();
         ++end) {
      if (rows[end].messages)
        conversations.push_back(*rows[end].messages);
      else
        prompts.push_back(rows[end].prompt);
    }
    const std::vector<Answer> answers =
        prompts.empty() ? generator.chat(conversations, begin) : generator.complete(prompts, begin);
    for (std::size_t i = begin; i < end; ++i) {
      lines.write(with_answer(rows[i], answers[i - begin], options));
      totals.new_tokens += answers[i - begin].new_tokens;
    }
    totals.rows += end - begin;
    begin = end;
  }
  lines.close();
  totals.tokens_per_second = static_cast<double>(totals.new_tokens) /
                             std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return totals;
}

}  // namespace oumi::cli
