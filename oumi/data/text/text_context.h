// What datasets of text are built with, beside their own settings.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "oumi/base/json.h"
#include "oumi/data/text/label_masks.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

struct TextContext {
  std::shared_ptr<const Tokenizer> tokenizer = nullptr;  // with its chat template; none: only rows that are tokenised already
  Json chat_template_kwargs = Json::object();
  std::optional<std::int64_t> max_length = std::nullopt;  // tokens; longer samples are cut at their end
  bool needs_length = false;  // streams of documents are encoded first where their length isn't known otherwise
  std::function<void(const std::string&)> notice = nullptr;  // lines for the user: what is encoded, read from the cache, ...
};

}  // namespace oumi
