#include "oumi/text/chat_template.h"

#include <cstring>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/text/bridge.h"

namespace oumi {

namespace {

// What the bridge's limits and the recursion limit refuse is in the template, not in the conversation.
std::string hint_for(std::string_view message, const char* otherwise) {
  const bool refused = message.find("refused: ") != message.npos || message.find("recursion limit") != message.npos;
  return refused
             ? "templates are limited in what they may cost; simplify this one, or take a template from a source that you trust"
             : otherwise;
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source;
  Json special_tokens;
  std::string origin;
  OumiTemplateHandle* handle = nullptr;

  Impl(std::string source_in, Json special_tokens_in, std::string origin_in)
      : source(std::move(source_in)), special_tokens(std::move(special_tokens_in)), origin(std::move(origin_in)) {
    text::BridgeBuffer message;
    const auto status = text::bridge().template_new(text::as_bytes(source), &handle, message.out());
    text::check_bridge(status, message, origin, "",
                       hint_for(message.view(), "correct the template there; Jinja as Transformers renders it is understood"));
  }
  ~Impl() {
    if (handle != nullptr) text::bridge().template_free(handle);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

namespace {

void check_messages(const Json& messages, const std::string& origin) {
  const auto wrong = [&](const std::string& what, const Json& got) {
    throw UserError(origin, cat(what, ", got ", json_type_name(got)),
                    "messages look like [{\"role\": \"user\", \"content\": \"...\"}]");
  };
  if (!messages.is_array()) wrong("messages: expected a list of {role, content}", messages);
  if (messages.empty())
    throw UserError(origin, "messages: expected at least one message, got none", "leave the empty conversation out");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) wrong(cat("messages[", i, "]: expected a dict"), messages[i]);
  }
}

// As Transformers hands messages to a template: keys that are null are left out, and what was reasoned goes by the names that
// templates read it under.
Json prepare(const Json& messages) {
  Json prepared = Json::array();
  for (const Json& message : messages) {
    Json kept = Json::object();
    const Json* reasoning = nullptr;
    for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
      if (reasoning == nullptr && message.contains(name) && !message[name].is_null()) reasoning = &message[name];
    }
    if (reasoning != nullptr && (!message.contains("thinking") || message["thinking"].is_null())) kept["thinking"] = *reasoning;
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    if (reasoning != nullptr) kept["reasoning_content"] = *reasoning;
    prepared.push_back(std::move(kept));
  }
  return prepared;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, Json special_tokens, std::string origin)
    : impl_(std::make_unique<Impl>(std::move(source), std::move(special_tokens), std::move(origin))) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

RenderedChat ChatTemplate::render(const Json& messages, const ChatRenderOptions& options) const {
  check_messages(messages, impl_->origin);
  if (!options.kwargs.is_object()) {
    throw UserError("model.chat_template_kwargs", cat("expected a dict, got ", json_type_name(options.kwargs)));
  }
  Json context = impl_->special_tokens;
  context.update(options.kwargs);
  context["messages"] = prepare(messages);
  context["tools"] = options.tools;
  context["documents"] = options.documents;
  context["add_generation_prompt"] = options.add_generation_prompt;
  std::string json;
  try {
    json = context.dump();
  } catch (const Json::type_error& error) {
    throw UserError(impl_->origin, cat("messages: expected UTF-8 text, got other bytes (", error.what(), ")"),
                    "convert the text to UTF-8");
  }

  text::BridgeBuffer spans, out;
  const auto status = text::bridge().render(impl_->handle, text::as_bytes(json), spans.out(), out.out());
  if (status == OUMI_BRIDGE_RAISED) {
    throw UserError(impl_->origin, cat("the template refuses the conversation: ", out.view()),
                    "change the conversation to what the template expects, or choose another template");
  }
  text::check_bridge(
      status, out, impl_->origin, "",
      hint_for(out.view(),
               "the template asks for something that the messages, tools or keyword arguments don't hold, or has a fault"));
  RenderedChat rendered{.text = out.text(), .generation_spans = {}};
  const std::string_view raw = spans.view();
  for (std::size_t at = 0; at + 2 * sizeof(std::size_t) <= raw.size(); at += 2 * sizeof(std::size_t)) {
    std::size_t span[2];
    std::memcpy(span, raw.data() + at, sizeof(span));
    rendered.generation_spans.emplace_back(span[0], span[1]);
  }
  return rendered;
}

const std::string& ChatTemplate::source() const noexcept { return impl_->source; }
bool ChatTemplate::has_generation_spans() const noexcept { return text::bridge().template_generates(impl_->handle) != 0; }

}  // namespace oumi
