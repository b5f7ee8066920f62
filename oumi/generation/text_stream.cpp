#include "oumi/generation/text_stream.h"

#include <algorithm>

namespace oumi {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD, which decoders put for a character that isn't whole

// Length of the longest end of `text` that begins a stop string.
std::size_t possible_stop(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = std::min(text.size(), stop.size() - 1); n > longest; --n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) longest = n;
    }
  }
  return longest;
}

}  // namespace

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop_strings, DecodeOptions options)
    : tokenizer_(std::move(tokenizer)), stop_strings_(std::move(stop_strings)), options_(options) {}

std::string TextStream::add(std::int32_t token) {
  if (stopped_) return "";
  ids_.push_back(token);
  // A decoder may treat a text's first token otherwise (a leading space), so the new text is the difference between two
  // decodings that begin at the same token.
  const std::span<const std::int32_t> all(ids_);
  const std::string before = tokenizer_->decode(all.subspan(prefix_, read_ - prefix_), options_);
  const std::string now = tokenizer_->decode(all.subspan(prefix_), options_);
  if (now.size() > before.size() && !std::string_view(now).ends_with(kReplacement)) {
    pending_ += now.substr(before.size());
    prefix_ = read_;
    read_ = ids_.size();
  }
  return give_out(/*final=*/false);
}

std::string TextStream::finish() {
  if (stopped_) return "";
  const std::span<const std::int32_t> all(ids_);
  const std::string before = tokenizer_->decode(all.subspan(prefix_, read_ - prefix_), options_);
  const std::string now = tokenizer_->decode(all.subspan(prefix_), options_);
  if (now.size() > before.size()) pending_ += now.substr(before.size());
  prefix_ = read_ = ids_.size();
  return give_out(/*final=*/true);
}

std::string TextStream::give_out(bool final) {
  std::size_t end = pending_.size();
  for (const std::string& stop : stop_strings_) {
    const std::size_t found = pending_.find(stop);
    if (found != std::string::npos && (!stopped_ || found < end)) {
      end = found;
      stopped_ = true;
    }
  }
  if (!stopped_ && !final) end -= possible_stop(pending_, stop_strings_);
  std::string out = pending_.substr(0, end);
  pending_.erase(0, end);
  if (stopped_) pending_.clear();
  text_ += out;
  return out;
}

}  // namespace oumi
