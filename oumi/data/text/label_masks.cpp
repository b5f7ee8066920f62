#include "oumi/data/text/label_masks.h"

#include <algorithm>

namespace oumi {
namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

// Position of the first `pattern` in [begin, end) of `ids`; kNone when there is none.
std::size_t find_first(TokenSpan ids, TokenSpan pattern, std::size_t begin, std::size_t end) {
  if (pattern.empty() || begin >= end) return kNone;
  const auto first = ids.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = ids.begin() + static_cast<std::ptrdiff_t>(end);
  const auto found = std::search(first, last, pattern.begin(), pattern.end());
  return found == last ? kNone : static_cast<std::size_t>(found - ids.begin());
}

void ignore(TokenIds& labels, std::size_t begin, std::size_t end, std::int32_t ignore_index) {
  std::fill(labels.begin() + static_cast<std::ptrdiff_t>(begin), labels.begin() + static_cast<std::ptrdiff_t>(end),
            ignore_index);
}

// What tools returned inside [begin, end) is no one's to learn. A result whose end was cut off reaches to `end`.
void ignore_tool_results(TokenIds& labels, TokenSpan ids, std::size_t begin, std::size_t end, const TurnMaskOptions& options) {
  const TurnMarkers& markers = options.markers;
  if (markers.tool_response.empty() || markers.end_of_tool_response.empty()) return;
  for (std::size_t at = begin; at < end;) {
    const std::size_t open = find_first(ids, markers.tool_response, at, end);
    if (open == kNone) return;
    const std::size_t close = find_first(ids, markers.end_of_tool_response, open, end);
    const std::size_t next = close == kNone ? end : close + markers.end_of_tool_response.size();
    ignore(labels, open, next, options.ignore_index);
    at = next;
  }
}

TokenIds mask_all_turns(TokenSpan ids, const TurnMaskOptions& options, bool& found) {
  const TurnMarkers& markers = options.markers;
  TokenIds labels(ids.size(), options.ignore_index);
  std::size_t size = ids.size();
  while (options.pad_id && size > 0 && ids[size - 1] == *options.pad_id) --size;
  const std::vector<std::size_t> starts = find_tokens(ids.first(size), markers.response);
  found = !starts.empty();
  for (const std::size_t start : starts) {
    const std::size_t begin = start + markers.response.size();
    const std::size_t turn_end = find_first(ids, markers.end_of_turn, begin, size);
    // An empty turn teaches nothing, its end marker included.
    if (begin >= (turn_end == kNone ? size : turn_end)) continue;
    const std::size_t end = turn_end == kNone ? size : turn_end + markers.end_of_turn.size();
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end),
              labels.begin() + static_cast<std::ptrdiff_t>(begin));
    ignore_tool_results(labels, ids, begin, end, options);
  }
  return labels;
}

// The ids, pads ignored. The pad token may be the end-of-text token: then that isn't learned either, as upstream.
TokenIds labels_without_pads(TokenSpan ids, const TurnMaskOptions& options) {
  TokenIds labels(ids.begin(), ids.end());
  if (options.pad_id) std::replace(labels.begin(), labels.end(), *options.pad_id, options.ignore_index);
  return labels;
}

TokenIds mask_final_turn(TokenSpan ids, const TurnMaskOptions& options, bool& found) {
  TokenIds labels = labels_without_pads(ids, options);
  const std::vector<std::size_t> starts = find_tokens(labels, options.markers.response);
  found = !starts.empty();
  const std::size_t begin = found ? starts.back() + options.markers.response.size() : ids.size();
  ignore(labels, 0, begin, options.ignore_index);
  ignore_tool_results(labels, ids, begin, ids.size(), options);
  return labels;
}

TokenIds mask_instructions(TokenSpan ids, const TurnMaskOptions& options, bool& found) {
  TokenIds labels = labels_without_pads(ids, options);
  std::vector<std::size_t> responses = find_tokens(labels, options.markers.response);
  std::vector<std::size_t> instructions = find_tokens(labels, options.markers.instruction);
  found = !responses.empty() && !instructions.empty();
  if (!found) {
    ignore(labels, 0, labels.size(), options.ignore_index);
    return labels;
  }
  for (std::size_t& response : responses) response += options.markers.response.size();
  // A chat that opens with an answer: what comes before it counts as its instruction.
  if (instructions.front() > responses.front()) instructions.insert(instructions.begin(), 0);
  for (std::size_t i = 0; i < std::min(instructions.size(), responses.size()); ++i) {
    const std::size_t begin = i == 0 ? 0 : instructions[i];
    if (begin < responses[i]) ignore(labels, begin, responses[i], options.ignore_index);
  }
  if (responses.size() < instructions.size()) ignore(labels, instructions.back(), labels.size(), options.ignore_index);
  return labels;
}

}  // namespace

std::vector<std::size_t> find_tokens(TokenSpan ids, TokenSpan pattern) {
  std::vector<std::size_t> positions;
  if (pattern.empty() || ids.size() < pattern.size()) return positions;
  for (std::size_t i = 0; i + pattern.size() <= ids.size(); ++i) {
    if (ids[i] == pattern[0] && std::equal(pattern.begin(), pattern.end(), ids.begin() + static_cast<std::ptrdiff_t>(i)))
      positions.push_back(i);
  }
  return positions;
}

TokenIds mask_turns(TokenSpan ids, const TurnMaskOptions& options, bool* found) {
  bool any = false;
  TokenIds labels;
  switch (options.turns) {
    case TrainedTurns::kAllAssistantTurns: labels = mask_all_turns(ids, options, any); break;
    case TrainedTurns::kFinalAssistantTurn: labels = mask_final_turn(ids, options, any); break;
    case TrainedTurns::kInstructionResponse: labels = mask_instructions(ids, options, any); break;
  }
  if (found != nullptr) *found = any;
  return labels;
}

TokenIds mask_spans(TokenSpan ids, std::span<const std::pair<std::size_t, std::size_t>> offsets,
                    std::span<const std::pair<std::size_t, std::size_t>> spans, std::int32_t ignore_index) {
  TokenIds labels(ids.size(), ignore_index);
  std::size_t token = 0;
  for (const auto& [begin, end] : spans) {
    if (begin >= end) continue;
    // Offsets rise, so each span's search goes on where the last one ended. A byte may be in no token (trimmed white space):
    // the next token stands in at the start, the previous one at the end.
    while (token < ids.size() && offsets[token].second <= begin) ++token;
    std::size_t last = token;
    bool any = false;
    for (std::size_t i = token; i < ids.size() && offsets[i].first < end; ++i) {
      any = true;
      // Further tokens of a character that several share add no offsets of their own.
      if (offsets[i].second > offsets[i].first) last = i;
      if (offsets[i].second >= end) break;
    }
    if (!any) continue;
    for (std::size_t i = token; i <= last; ++i) labels[i] = ids[i];
  }
  return labels;
}

}  // namespace oumi
