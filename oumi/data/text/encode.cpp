#include "oumi/data/text/encode.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// Encoding errors are about the text; the user looks for its row.
template <class Action>
auto naming(const std::string& origin, Action&& action) {
  try {
    return action();
  } catch (const UserError& error) {
    if (error.component().starts_with(origin)) throw;
    throw UserError(origin, error.component() + ": " + error.message(), error.hint());
  }
}

// What is kept when a text is cut: so many tokens at its ends, which the tokenizer has put around it.
struct Frame {
  std::size_t before = 0, after = 0;
};

Frame frame_of(const Tokenizer& tokenizer, bool add_special_tokens) {
  if (!add_special_tokens) return {};
  const std::vector<std::uint8_t> mask = tokenizer.encode_full("a", {.add_special_tokens = true}).special_tokens_mask;
  const auto is_text = [](std::uint8_t special) { return special == 0; };
  const auto first = std::find_if(mask.begin(), mask.end(), is_text);
  if (first == mask.end()) return {};
  const auto last = std::find_if(mask.rbegin(), mask.rend(), is_text);
  return {static_cast<std::size_t>(first - mask.begin()), static_cast<std::size_t>(last - mask.rbegin())};
}

// The tokens to take out: [begin, begin + count).
struct Cut {
  std::size_t begin = 0, count = 0;
};

Cut cut_of(std::size_t size, std::optional<std::int64_t> max_length, TruncationSide side, Frame frame = {}) {
  if (!max_length || static_cast<std::int64_t>(size) <= *max_length) return {};
  const std::size_t kept = static_cast<std::size_t>(*max_length);
  if (kept <= frame.before + frame.after) frame = {};
  return {side == TruncationSide::kLeft ? frame.before : kept - frame.after, size - kept};
}

void apply(const Cut& cut, TokenIds& ids) {
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(cut.begin);
  ids.erase(begin, begin + static_cast<std::ptrdiff_t>(cut.count));
}

}  // namespace

void for_each_parallel(std::size_t count, const std::function<void(std::size_t)>& visit) {
  constexpr std::size_t kGrain = 16;
  const std::size_t threads =
      std::min<std::size_t>(std::max(1u, std::thread::hardware_concurrency()), (count + kGrain - 1) / kGrain);
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr error;
  const auto work = [&] {
    for (std::size_t begin = next.fetch_add(kGrain); begin < count; begin = next.fetch_add(kGrain)) {
      for (std::size_t i = begin; i < std::min(begin + kGrain, count); ++i) {
        try {
          visit(i);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (i < failed) failed = i, error = std::current_exception();
          break;  // later rows of this piece come after it
        }
      }
    }
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  if (error) std::rethrow_exception(error);
}

ToolCallForm detect_tool_call_form(const ChatTemplate& chat) {
  constexpr const char* kSentinel = "oumiSentinelCity";
  const Json call = {{"id", "call00001"},
                     {"type", "function"},
                     {"function", {{"name", "get_weather"}, {"arguments", std::string("{\"city\": \"") + kSentinel + "\"}"}}}};
  Conversation conversation;
  conversation.messages = {{.role = "user", .content = "How is the weather?"},
                           {.role = "assistant", .tool_calls = Json::array({call})},
                           {.role = "tool", .content = "sunny", .tool_call_id = "call00001"},
                           {.role = "assistant", .content = "It is sunny."}};
  conversation.tools = Json::array(
      {{{"type", "function"},
        {"function",
         {{"name", "get_weather"},
          {"description", "the weather of a city"},
          {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}, {"required", {"city"}}}}}}}});
  for (const bool as_dict : {true, false}) {
    for (const bool as_empty : {true, false}) {
      const ToolCallForm form{as_dict, as_empty};
      try {
        const std::string text =
            chat.render(template_messages(conversation, form, "probe"), {.tools = conversation.tools}).text;
        const bool escaped = text.find(std::string("\\\"") + kSentinel) != std::string::npos ||
                             text.find(std::string(kSentinel) + "\\\"") != std::string::npos;
        if (text.find(kSentinel) != std::string::npos && !escaped) return form;
      } catch (const UserError&) {
        // The template refuses this form.
      }
    }
  }
  return {};
}

ChatEncoder::ChatEncoder(TextContext context, ChatEncodeOptions options, const std::string& key)
    : context_(std::move(context)), options_(std::move(options)) {
  if (context_.tokenizer == nullptr) {
    throw UserError(key + ".dataset_name", "conversations need a tokenizer, and this run has none",
                    "set model.tokenizer_name to a folder with tokenizer.json, or use dataset_name: pretokenized");
  }
  if (context_.tokenizer->chat_template().empty()) {
    throw UserError("model.chat_template", "conversations need a chat template, and the tokenizer has none",
                    "set model.chat_template, for example to chat_ml");
  }
  tool_form_ = detect_tool_call_form(context_.tokenizer->chat());
  if (!options_.assistant_only) return;
  by_spans_ = context_.tokenizer->chat().has_generation_spans();
  if (by_spans_) return;
  for (std::string* marker : {&options_.response_template, &options_.instruction_template}) *marker = trim(*marker);
  if (options_.response_template.empty() || options_.instruction_template.empty()) {
    throw UserError(
        key + ".dataset_kwargs.assistant_only",
        "the chat template marks no {% generation %} blocks, so both response_template and instruction_template are needed",
        "set them to what begins an assistant's and a user's turn, or choose a template with {% generation %}");
  }
  const auto ids = [&](const std::string& marker) { return context_.tokenizer->encode(marker, {.add_special_tokens = false}); };
  prefixes_ = {.turns = TrainedTurns::kInstructionResponse,
               .markers = {.response = ids(options_.response_template), .instruction = ids(options_.instruction_template)}};
}

RenderedChat ChatEncoder::rendered(const Conversation& conversation, const std::string& origin) const {
  ChatRenderOptions render{.add_generation_prompt = options_.add_generation_prompt, .kwargs = context_.chat_template_kwargs};
  if (conversation.has_tools()) render.tools = conversation.tools;
  return naming(origin,
                [&] { return context_.tokenizer->chat().render(template_messages(conversation, tool_form_, origin), render); });
}

std::string ChatEncoder::render(const Conversation& conversation, const std::string& origin) const {
  return rendered(conversation, origin).text;
}

EncodedRow ChatEncoder::finish(Encoding encoding, const RenderedChat& chat) const {
  EncodedRow row;
  row.ids = std::move(encoding.ids);
  if (by_spans_) row.labels = mask_spans(row.ids, encoding.offsets, chat.generation_spans);
  const Cut cut = cut_of(row.ids.size(), context_.max_length, context_.tokenizer->truncation_side());
  row.dropped = static_cast<std::int64_t>(cut.count);
  apply(cut, row.ids);
  if (row.labels) apply(cut, *row.labels);
  // Turns are looked for in what is left, as the upstream tokenisation cuts first.
  if (options_.assistant_only && !by_spans_) row.labels = mask_turns(row.ids, prefixes_);
  return row;
}

EncodedRow ChatEncoder::encode(const Conversation& conversation, const std::string& origin) const {
  const RenderedChat chat = rendered(conversation, origin);
  return naming(origin, [&] {
    return finish(context_.tokenizer->encode_full(chat.text, {.add_special_tokens = false, .offsets = by_spans_}), chat);
  });
}

std::vector<EncodedRow> ChatEncoder::encode(const std::vector<TextRow>& rows, const ConversationOf& conversation_of) const {
  std::vector<RenderedChat> chats(rows.size());
  for_each_parallel(rows.size(), [&](std::size_t i) {
    const std::string origin = rows[i].origin();
    chats[i] = rendered(conversation_of(rows[i].json(), origin), origin);
  });
  std::vector<std::string_view> texts;
  for (const RenderedChat& chat : chats) texts.emplace_back(chat.text);
  std::vector<Encoding> encodings = context_.tokenizer->encode_batch(std::span<const std::string_view>(texts),
                                                                     {.add_special_tokens = false, .offsets = by_spans_});
  std::vector<EncodedRow> encoded(rows.size());
  for_each_parallel(rows.size(), [&](std::size_t i) { encoded[i] = finish(std::move(encodings[i]), chats[i]); });
  return encoded;
}

std::string ChatEncoder::fingerprint() const {
  const Json tools = {tool_form_.arguments_as_dict, tool_form_.content_as_empty};
  return cat("chat 1|", context_.tokenizer->fingerprint(), '|', context_.chat_template_kwargs.dump(), '|',
             context_.max_length.value_or(0), '|',
             context_.tokenizer->truncation_side() == TruncationSide::kLeft ? "left|" : "", options_.add_generation_prompt,
             options_.assistant_only, '|', options_.response_template, '|', options_.instruction_template, '|', tools.dump());
}

std::vector<EncodedRow> encode_documents(const std::vector<TextRow>& rows, const std::string& column,
                                         const Tokenizer& tokenizer, const DocumentEncodeOptions& options) {
  std::vector<std::string> texts(rows.size());
  for_each_parallel(rows.size(), [&](std::size_t i) { texts[i] = rows[i].text(column); });
  std::vector<Encoding> encodings;
  try {
    encodings = tokenizer.encode_batch(std::span<const std::string>(texts), {.add_special_tokens = options.add_special_tokens});
  } catch (const UserError&) {
    // One by one, to name the row.
    for (std::size_t i = 0; i < rows.size(); ++i) {
      naming(rows[i].origin(), [&] { return tokenizer.encode(texts[i], {.add_special_tokens = options.add_special_tokens}); });
    }
    throw;
  }
  std::vector<EncodedRow> encoded(rows.size());
  const Frame frame = options.max_length ? frame_of(tokenizer, options.add_special_tokens) : Frame{};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    encoded[i].ids = std::move(encodings[i].ids);
    const Cut cut = cut_of(encoded[i].ids.size(), options.max_length, tokenizer.truncation_side(), frame);
    encoded[i].dropped = static_cast<std::int64_t>(cut.count);
    apply(cut, encoded[i].ids);
  }
  return encoded;
}

}  // namespace oumi
