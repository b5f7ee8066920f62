// Text out of tokens as they come.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "oumi/text/tokenizer.h"

namespace oumi {

// Turns one sequence's tokens into text piece by piece. Holds back what may still change: bytes of a character that is not
// whole, and text that may be the beginning of a stop string.
class TextStream {
 public:
  TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stop_strings, DecodeOptions options);

  // The text that became certain with this token; may be empty.
  std::string add(std::int32_t token);
  // A stop string was met: text before it was the last.
  bool stopped() const noexcept { return stopped_; }
  // What is still held back at the end of the sequence; empty after a stop string.
  std::string finish();
  // All text given out so far.
  const std::string& text() const noexcept { return text_; }

 private:
  std::string give_out(bool final);

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::string> stop_strings_;
  DecodeOptions options_;
  std::vector<std::int32_t> ids_;
  std::size_t prefix_ = 0, read_ = 0;  // ids_[prefix_, read_) give context to the decoder; their text is in pending_ or text_
  std::string pending_;                // decoded, not given out
  std::string text_;
  bool stopped_ = false;
};

}  // namespace oumi
