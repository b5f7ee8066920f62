#include "oumi/data/text/turn_markers.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kSystem = "<<__S__>>";
constexpr const char* kUser = "<<__U__>>";
constexpr const char* kAssistant = "<<__A__>>";
constexpr const char* kHint = "give response_template (and end_of_turn_template for ALL_ASSISTANT_TURNS) in collator_kwargs";

[[noreturn]] void cannot_detect(const std::string& why) {
  throw UserError("model.chat_template", "its turns cannot be told apart: " + why, kHint);
}

void strip_newlines(std::string& text) {
  while (text.ends_with('\n')) text.pop_back();
}

TokenIds ids_of(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {.add_special_tokens = false});
}

Json probe(bool with_system, std::size_t turns) {
  Json messages = Json::array();
  if (with_system) messages.push_back({{"role", "system"}, {"content", kSystem}});
  for (std::size_t i = 0; i < turns; ++i) {
    messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", i % 2 == 0 ? kUser : kAssistant}});
  }
  return messages;
}

// What ends the last turn and what ends one before another agree on the marker, and go on differently.
TokenIds end_of_turn(const Tokenizer& tokenizer, const std::string& after_last, const std::string& between) {
  const TokenIds last = ids_of(tokenizer, after_last), middle = ids_of(tokenizer, between);
  std::size_t common = 0;
  while (common < std::min(last.size(), middle.size()) && last[common] == middle[common]) ++common;
  if (common > 0) return {last.begin(), last.begin() + static_cast<std::ptrdiff_t>(common)};
  return middle.empty() ? TokenIds{} : TokenIds{middle.front()};
}

std::string response_header(const Tokenizer& tokenizer, const std::string& header, const TokenIds& end) {
  TokenIds ids = ids_of(tokenizer, header);
  if (!end.empty() && ids.size() >= end.size() && std::equal(end.begin(), end.end(), ids.begin()))
    ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(end.size()));
  std::string text = tokenizer.decode(ids);
  // An empty block of thoughts that some templates put first is the model's own.
  if (const std::size_t think = text.find("<think>"); think != std::string::npos) {
    text.resize(think);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
    if (text.empty()) cannot_detect("the header of an answer is a <think> block alone");
  }
  strip_newlines(text);  // byte-level merges join it with newlines that the answer begins with
  return text;
}

// Generation may begin inside the header: what comes after is then the model's to write.
std::string clamp_to_generation_prompt(const ChatTemplate& chat, std::string header, const Json& messages) {
  try {
    const std::string without = chat.render(messages).text, with = chat.render(messages, {.add_generation_prompt = true}).text;
    if (!with.starts_with(without)) return header;
    std::string prompt = with.substr(without.size());
    strip_newlines(prompt);
    if (!prompt.empty() && prompt.size() < header.size() && header.starts_with(prompt)) return prompt;
  } catch (const UserError&) {
    // A template without a generation prompt.
  }
  return header;
}

// A marker of the collator's kwargs: text or token ids.
std::optional<TokenIds> marker_of(const Kwargs& kwargs, const char* name, const Tokenizer& tokenizer) {
  const Json* value = kwargs.find(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (value->is_array()) return kwargs.require<TokenIds>(name);
  const TokenIds ids = ids_of(tokenizer, kwargs.require<std::string>(name));
  if (ids.empty())
    throw UserError(kwargs.origin() + "." + name,
                    "expected text with at least one token, got '" + value->get<std::string>() + "'");
  return ids;
}

TrainedTurns parse_target(const std::string& name, const std::string& key) {
  const std::string lower = to_lower(name);
  if (lower == "all_assistant_turns") return TrainedTurns::kAllAssistantTurns;
  if (lower == "final_assistant_turn") return TrainedTurns::kFinalAssistantTurn;
  if (lower == "_legacy_instruction_response") return TrainedTurns::kInstructionResponse;
  throw UserError(key, "expected all_assistant_turns or final_assistant_turn, got '" + name + "'");
}

}  // namespace

DetectedMarkers detect_turn_markers(const Tokenizer& tokenizer) {
  if (tokenizer.chat_template().empty()) cannot_detect("the tokenizer has no chat template");
  const ChatTemplate& chat = tokenizer.chat();
  std::string text;
  bool with_system = true;
  try {
    text = chat.render(probe(true, 4)).text;
  } catch (const UserError&) {
    with_system = false;
    text = chat.render(probe(false, 4)).text;
  }
  // The second exchange: the first may carry the system prompt.
  const std::size_t first = text.find(kAssistant);
  const std::size_t user = first == std::string::npos ? first : text.find(kUser, first);
  const std::size_t second = user == std::string::npos ? user : text.find(kAssistant, user);
  if (second == std::string::npos) cannot_detect("the contents of a test conversation are not all in the rendered text");
  const std::size_t size = std::string_view(kAssistant).size();
  DetectedMarkers found;
  found.end_of_turn = end_of_turn(tokenizer, text.substr(second + size), text.substr(first + size, user - first - size));
  found.response_template = response_header(tokenizer, text.substr(user + size, second - user - size), found.end_of_turn);
  found.response_template = clamp_to_generation_prompt(chat, found.response_template, probe(with_system, 3));
  if (trim(found.response_template).empty()) cannot_detect("nothing stands before an answer");
  if (found.end_of_turn.empty() || trim(tokenizer.decode(found.end_of_turn)).empty())
    cannot_detect("nothing stands after an answer");
  return found;
}

TurnMaskOptions completion_masks(const DatasetSplitParams& split, const Kwargs& kwargs, const Tokenizer& tokenizer,
                                 const std::string& key) {
  const auto response = marker_of(kwargs, "response_template", tokenizer),
             instruction = marker_of(kwargs, "instruction_template", tokenizer);
  const auto turn_end = marker_of(kwargs, "end_of_turn_template", tokenizer);
  const auto tool = marker_of(kwargs, "tool_response_template", tokenizer),
             tool_end = marker_of(kwargs, "end_of_tool_response_template", tokenizer);
  if (tool.has_value() != tool_end.has_value()) {
    throw UserError(kwargs.origin(), "tool_response_template and end_of_tool_response_template go together, got one of them",
                    "set both");
  }
  TurnMaskOptions options;
  options.pad_id = tokenizer.pad_id();
  options.markers = {response.value_or(TokenIds{}), instruction.value_or(TokenIds{}), turn_end.value_or(TokenIds{}),
                     tool.value_or(TokenIds{}), tool_end.value_or(TokenIds{})};
  const std::string named = kwargs.get<std::string>("train_target", "");
  if (!named.empty())
    options.turns = parse_target(named, kwargs.origin() + ".train_target");
  else if (split.train_target)
    options.turns = *split.train_target == TrainTarget::kAllAssistantTurns ? TrainedTurns::kAllAssistantTurns
                                                                           : TrainedTurns::kFinalAssistantTurn;
  else if (!response)
    throw UserError(key + ".train_target", "text_completions_only_with_padding does not know what to train on",
                    "set train_target, or response_template in collator_kwargs");
  else if (turn_end)
    options.turns = TrainedTurns::kAllAssistantTurns;
  else if (instruction)
    options.turns = TrainedTurns::kInstructionResponse;
  else
    options.turns = TrainedTurns::kFinalAssistantTurn;

  if (options.turns == TrainedTurns::kInstructionResponse && (!response || !instruction)) {
    throw UserError(kwargs.origin(),
                    "train_target _legacy_instruction_response needs response_template and instruction_template", "set both");
  }
  const bool needs_end = options.turns == TrainedTurns::kAllAssistantTurns && !turn_end;
  if (!response || needs_end) {
    const DetectedMarkers found = detect_turn_markers(tokenizer);
    if (!response) options.markers.response = ids_of(tokenizer, found.response_template);
    if (needs_end) options.markers.end_of_turn = found.end_of_turn;
  }
  return options;
}

}  // namespace oumi
