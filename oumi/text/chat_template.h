// Chat templates: Jinja as Transformers' apply_chat_template renders it (trim_blocks, lstrip_blocks, loop controls, tojson
// without HTML escapes, raise_exception, strftime_now, {% generation %}). Rendered by `minijinja` behind bridge/.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

struct ChatRenderOptions {
  bool add_generation_prompt = false;
  Json tools = nullptr;          // list of JSON schemas; null when there are none
  Json documents = nullptr;      // list of {title, text}; null when there are none
  Json kwargs = Json::object();  // further variables of the template (model.chat_template_kwargs)
};

struct RenderedChat {
  std::string text;
  // Bytes [begin, end) of `text` that {% generation %} blocks gave, in order: what an assistant says.
  std::vector<std::pair<std::size_t, std::size_t>> generation_spans;
};

// Immutable; render() may be called from several threads at once.
class ChatTemplate {
 public:
  // Parses `source`. `special_tokens` ({"bos_token": "<s>", ...}) are variables of the template. `origin` (a file, or
  // "template 'chat_ml'") names the template in errors. Throws UserError with the line of a syntax error.
  explicit ChatTemplate(std::string source, Json special_tokens = Json::object(), std::string origin = "chat template");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // `messages` is a list of {role, content, ...}. Throws UserError: not such a list, what the template raises, or a fault in it
  // with its line.
  RenderedChat render(const Json& messages, const ChatRenderOptions& options = {}) const;

  const std::string& source() const noexcept;
  // Whether the template marks what the assistant says with {% generation %}.
  bool has_generation_spans() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The source of a built-in template by Oumi's name (chat_ml, llama3-instruct, ...), in any case. Throws UserError with the
// nearest name.
const std::string& builtin_chat_template(std::string_view name);
std::vector<std::string> builtin_chat_template_names();

}  // namespace oumi
