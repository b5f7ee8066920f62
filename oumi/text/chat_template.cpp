#include "oumi/text/chat_template.h"

#include "oumi/base/error.h"

namespace oumi {

struct ChatTemplate::Impl {};

ChatTemplate::ChatTemplate(std::string, Json, std::string origin) {
  throw EnvironmentError(origin, "chat templates are not built into this binary");
}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

RenderedChat ChatTemplate::render(const Json&, const ChatRenderOptions&) const { return {}; }
const std::string& ChatTemplate::source() const noexcept {
  static const std::string kNone;
  return kNone;
}
bool ChatTemplate::has_generation_spans() const noexcept { return false; }

const std::string& builtin_chat_template(std::string_view name) {
  throw UserError("model.chat_template", "there is no built-in template '" + std::string(name) + "'");
}
std::vector<std::string> builtin_chat_template_names() { return {}; }

}  // namespace oumi
