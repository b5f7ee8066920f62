// Pretraining: documents joined and cut into rows of one length.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "oumi/data/stream.h"
#include "oumi/data/text/rows.h"
#include "oumi/data/text/text_context.h"
#include "oumi/data/text/token_file.h"

namespace oumi {

// Names as Oumi's pretraining datasets have them.
struct PretrainingOptions {
  std::int64_t seq_length = 0;
  std::string dataset_text_field = "text";
  bool append_concat_token = true;  // the end-of-text token between two documents
  bool add_special_tokens = true;   // those that the tokenizer puts around each document
  bool skip_last = true;            // drop what is left at the end; else it is a shorter row
};

// Cuts tokens as they come. `concat_id`: none when documents follow each other without a token between.
class ChunkBuffer {
 public:
  ChunkBuffer(std::int64_t seq_length, std::optional<std::int32_t> concat_id)
      : seq_length_(seq_length), concat_id_(concat_id) {}
  void add_document(TokenSpan ids);
  std::optional<TokenIds> next_chunk();  // of seq_length tokens; nullopt until there are as many
  TokenIds rest();                       // what is left, and empty afterwards
  bool empty() const noexcept { return size() == 0; }
  std::size_t size() const noexcept { return tokens_.size() - begin_; }
  void drop(std::size_t count) { begin_ += count; }

 private:
  std::int64_t seq_length_;
  std::optional<std::int32_t> concat_id_;
  TokenIds tokens_;
  std::size_t begin_ = 0;
};

// Writes every chunk of `source`.
void write_chunks(RowReader& reader, const TextContext& context, const PretrainingOptions& options, TokenFileWriter& writer);

// The same chunks, read and encoded while training, in O(1) memory. Its position names the document that a chunk begins in.
StreamPtr stream_chunks(RowSource source, TextContext context, PretrainingOptions options, std::string name);

}  // namespace oumi
