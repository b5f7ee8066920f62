// Which tokens of a chat are trained on, found by the token ids that stand between its turns. No torch here.
// Semantics: Oumi's text_completions_only_with_padding collator (after TRL's DataCollatorForCompletionOnlyLM) and its
// assistant_only datasets.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace oumi {

using TokenIds = std::vector<std::int32_t>;
using TokenSpan = std::span<const std::int32_t>;

inline constexpr std::int32_t kIgnoredLabel = -100;

// Token ids of the texts that begin and end turns. Empty: not used.
struct TurnMarkers {
  TokenIds response{};     // begins an assistant's turn
  TokenIds instruction{};  // begins a user's turn
  TokenIds end_of_turn{};
  TokenIds tool_response{};  // with end_of_tool_response: a tool's result inside an assistant's turn
  TokenIds end_of_tool_response{};
};

enum class TrainedTurns {
  kAllAssistantTurns,    // from after each `response` to the next `end_of_turn`, that included
  kFinalAssistantTurn,   // everything after the last `response`
  kInstructionResponse,  // everything that isn't between an `instruction` and the `response` after it
};

struct TurnMaskOptions {
  TrainedTurns turns = TrainedTurns::kAllAssistantTurns;
  TurnMarkers markers{};
  std::int32_t ignore_index = kIgnoredLabel;
  // Trailing pads are no text; kFinalAssistantTurn and kInstructionResponse train on no pad token anywhere.
  std::optional<std::int32_t> pad_id{};
};

// Labels of a chat: its ids, or ignore_index where nothing is learned. All are ignored when a needed marker isn't there:
// `found` (may be null) is then false.
TokenIds mask_turns(TokenSpan ids, const TurnMaskOptions& options, bool* found = nullptr);

// Labels by byte spans of the rendered text ({% generation %} blocks) and the tokens' byte offsets in it. A token is trained on
// from the first that holds a span's first byte to the first that holds the first byte of its last character, as
// Transformers' assistant_masks has it.
TokenIds mask_spans(TokenSpan ids, std::span<const std::pair<std::size_t, std::size_t>> offsets,
                    std::span<const std::pair<std::size_t, std::size_t>> spans, std::int32_t ignore_index = kIgnoredLabel);

// Every position at which `pattern` begins; none for an empty pattern.
std::vector<std::size_t> find_tokens(TokenSpan ids, TokenSpan pattern);

}  // namespace oumi
