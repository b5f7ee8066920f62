#include "oumi/generation/text_generator.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/generation/text_stream.h"

namespace oumi {

TextGenerator::TextGenerator(LanguageModelPtr model, std::shared_ptr<const Tokenizer> tokenizer, TextGeneratorOptions options)
    : model_(std::move(model)), tokenizer_(std::move(tokenizer)), options_(std::move(options)) {}

std::vector<Answer> TextGenerator::complete(std::span<const std::string> prompts, std::size_t first) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer_->encode(prompt));
    // An empty text still has a beginning where the tokenizer knows one.
    if (ids.back().empty() && tokenizer_->bos_id()) ids.back().push_back(*tokenizer_->bos_id());
  }
  return run(ids, options_.generation, first);
}

std::vector<Answer> TextGenerator::chat(std::span<const Json> conversations, std::size_t first) {
  std::vector<std::vector<std::int32_t>> ids;
  for (const Json& messages : conversations) {
    ids.push_back(
        tokenizer_->encode_chat(messages, {.add_generation_prompt = true, .kwargs = options_.chat_template_kwargs}).ids);
  }
  GenerationOptions generation = options_.generation;
  if (const std::int32_t end = turn_end_token(*tokenizer_, options_.chat_template_kwargs); end >= 0) {
    std::vector<std::int32_t>& stops = generation.stop_token_ids;
    if (const auto place = std::lower_bound(stops.begin(), stops.end(), end); place == stops.end() || *place != end)
      stops.insert(place, end);
  }
  return run(ids, generation, first);
}

std::vector<Answer> TextGenerator::run(const std::vector<std::vector<std::int32_t>>& prompts,
                                       const GenerationOptions& generation, std::size_t first) {
  std::vector<Answer> answers(prompts.size());
  const auto batch = static_cast<std::size_t>(std::max<std::int64_t>(1, generation.batch_size));
  for (std::size_t begin = 0; begin < prompts.size(); begin += batch) {
    const auto part = std::span(prompts).subspan(begin, std::min(batch, prompts.size() - begin));
    std::vector<TextStream> streams;
    streams.reserve(part.size());
    for (std::size_t i = 0; i < part.size(); ++i) {
      streams.emplace_back(tokenizer_, options_.stop_strings,
                           DecodeOptions{.skip_special_tokens = options_.skip_special_tokens});
    }
    const auto give = [&](std::size_t i, const std::string& piece) {
      return piece.empty() || !options_.on_text || options_.on_text(begin + i, piece);
    };
    const auto is_stop = [&](std::int32_t token) {
      return std::binary_search(generation.stop_token_ids.begin(), generation.stop_token_ids.end(), token);
    };
    const std::vector<Continuation> continuations = generate(
        *model_, part, generation,
        [&](std::size_t i, std::int32_t token) {
          if (is_stop(token)) return true;  // ends the sequence, and is no text
          const bool wanted = give(i, streams[i].add(token));
          return wanted && !streams[i].stopped();
        },
        first + begin);
    for (std::size_t i = 0; i < part.size(); ++i) {
      give(i, streams[i].finish());
      answers[begin + i] = {.text = streams[i].text(),
                            .prompt_tokens = static_cast<std::int64_t>(part[i].size()),
                            .new_tokens = static_cast<std::int64_t>(continuations[i].ids.size()),
                            .reason = continuations[i].reason};
    }
  }
  return answers;
}

std::int32_t turn_end_token(const Tokenizer& tokenizer, const Json& chat_template_kwargs) {
  if (tokenizer.chat_template().empty()) return -1;
  const std::string said = "sample";
  const Json messages = {{{"role", "user"}, {"content", "x"}}, {{"role", "assistant"}, {"content", said}}};
  std::string text;
  try {
    text = tokenizer.encode_chat(messages, {.kwargs = chat_template_kwargs}).text;
  } catch (const UserError&) {
    return -1;  // a template that wants something else: no turn to look at
  }
  const auto found = text.rfind(said);
  if (found == std::string::npos) return -1;
  const std::string rest = trim(text.substr(found + said.size()));
  if (rest.empty()) return -1;
  const std::vector<std::int32_t> ids = tokenizer.encode(rest, {.add_special_tokens = false});
  if (ids.empty()) return -1;
  const std::optional<std::string> token = tokenizer.id_to_token(ids.front());
  const std::vector<std::int32_t> one = {ids.front()};
  const bool special = tokenizer.decode(one, {.skip_special_tokens = true}).empty();
  return token && special && rest.starts_with(*token) ? ids.front() : -1;
}

}  // namespace oumi
