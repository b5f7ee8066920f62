#include "oumi/data/text/documents.h"

#include "oumi/base/error.h"
#include "oumi/data/text/encode.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {
namespace {

constexpr std::size_t kDocumentsAtATime = 512;

std::optional<std::int32_t> concat_id(const TextContext& context, const PretrainingOptions& options) {
  return options.append_concat_token ? context.tokenizer->eos_id() : std::nullopt;
}

class ChunkStream : public Stream {
 public:
  ChunkStream(RowSource source, TextContext context, PretrainingOptions options, std::string name)
      : source_(std::move(source)),
        context_(std::move(context)),
        options_(std::move(options)),
        name_(std::move(name)),
        reader_(open_rows(source_)),
        buffer_(options_.seq_length, concat_id(context_, options_)) {}

  std::optional<Sample> produce() override {
    const auto chunk = next_chunk();
    return chunk ? std::optional(token_sample(*chunk, *chunk)) : std::nullopt;
  }
  bool skip() override { return next_chunk().has_value(); }
  void rewind() override { restart(Json::object(), 0); }
  Json position() const override {
    if (pieces_.empty()) return Json{{"reader", next_position()}, {"drop", 0}};
    return Json{{"reader", pieces_.front().position}, {"drop", pieces_.front().taken}};
  }
  void seek(const Json& position) override { restart(position.at("reader"), position.at("drop").get<std::size_t>()); }
  std::string name() const override { return name_; }
  std::string fingerprint() const override {
    return cat(files_fingerprint(source_.files), '|', context_.tokenizer->fingerprint(), '|', options_.seq_length,
               options_.append_concat_token, options_.add_special_tokens);
  }

 private:
  // The part of the buffer that came with one document: its separator, then its tokens.
  struct Piece {
    Json position;
    std::size_t size;
    std::size_t taken;  // of it, by chunks that were given out
  };
  struct Document {
    Json position;
    TokenIds ids;
  };

  Json next_position() const { return documents_.empty() ? reader_->position() : documents_.front().position; }

  void restart(const Json& reader_position, std::size_t drop) {
    reader_ = open_rows(source_);
    if (!reader_position.empty()) reader_->seek(reader_position);
    documents_.clear();
    pieces_.clear();
    buffer_ = ChunkBuffer(options_.seq_length, concat_id(context_, options_));
    ended_ = false;
    if (drop == 0) return;
    // A piece never begins with a separator that a chunk has taken without its document: the document follows from 0.
    if (!add_document() || pieces_.front().size < drop)
      throw UserError(name_, "state: the files have fewer tokens than when it was saved");
    buffer_.drop(drop);
    pieces_.front().taken = drop;
  }

  bool fill() {
    std::vector<TextRow> rows;
    std::vector<Json> positions;
    Json position = reader_->position();
    for (TextRow row; rows.size() < kDocumentsAtATime && reader_->next(row); position = reader_->position()) {
      rows.push_back(std::move(row));
      positions.push_back(std::move(position));
    }
    auto encoded = encode_documents(rows, options_.dataset_text_field, *context_.tokenizer,
                                    {.add_special_tokens = options_.add_special_tokens});
    for (std::size_t i = 0; i < encoded.size(); ++i) documents_.push_back({std::move(positions[i]), std::move(encoded[i].ids)});
    return !documents_.empty();
  }

  bool add_document() {
    if (documents_.empty() && !fill()) return false;
    const std::size_t before = buffer_.size();
    buffer_.add_document(documents_.front().ids);
    const std::size_t added = buffer_.size() - before, size = documents_.front().ids.size();
    if (added > size && !pieces_.empty()) pieces_.back().size += added - size;  // the separator belongs to what it ends
    if (size > 0) pieces_.push_back({std::move(documents_.front().position), size, 0});
    documents_.pop_front();
    return true;
  }

  std::optional<TokenIds> next_chunk() {
    auto chunk = buffer_.next_chunk();
    while (!chunk && !ended_) {
      if (!add_document()) {
        ended_ = true;
        if (!options_.skip_last && !buffer_.empty()) chunk = buffer_.rest();
        break;
      }
      chunk = buffer_.next_chunk();
    }
    if (chunk) take(chunk->size());
    return chunk;
  }

  void take(std::size_t count) {
    while (count > 0 && !pieces_.empty()) {
      Piece& piece = pieces_.front();
      const std::size_t part = std::min(count, piece.size - piece.taken);
      piece.taken += part;
      count -= part;
      if (piece.taken == piece.size) pieces_.pop_front();
    }
  }

  RowSource source_;
  TextContext context_;
  PretrainingOptions options_;
  std::string name_;
  std::unique_ptr<RowReader> reader_;
  ChunkBuffer buffer_;
  std::deque<Document> documents_;  // encoded, not yet in the buffer
  std::deque<Piece> pieces_;
  bool ended_ = false;
};

}  // namespace

void ChunkBuffer::add_document(TokenSpan ids) {
  if (begin_ > 0) {
    tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(begin_));
    begin_ = 0;
  }
  if (concat_id_ && !tokens_.empty()) tokens_.push_back(*concat_id_);
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
}

std::optional<TokenIds> ChunkBuffer::next_chunk() {
  if (static_cast<std::int64_t>(size()) < seq_length_) return std::nullopt;
  const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(begin_);
  TokenIds chunk(begin, begin + static_cast<std::ptrdiff_t>(seq_length_));
  begin_ += static_cast<std::size_t>(seq_length_);
  return chunk;
}

TokenIds ChunkBuffer::rest() {
  TokenIds left(tokens_.begin() + static_cast<std::ptrdiff_t>(begin_), tokens_.end());
  begin_ = tokens_.size();
  return left;
}

void write_chunks(RowReader& reader, const TextContext& context, const PretrainingOptions& options, TokenFileWriter& writer) {
  ChunkBuffer buffer(options.seq_length, concat_id(context, options));
  std::vector<TextRow> rows;
  const auto encode = [&] {
    for (EncodedRow& row : encode_documents(rows, options.dataset_text_field, *context.tokenizer,
                                            {.add_special_tokens = options.add_special_tokens})) {
      buffer.add_document(row.ids);
      while (auto chunk = buffer.next_chunk()) writer.add({.ids = std::move(*chunk)});
    }
    rows.clear();
  };
  for (TextRow row; reader.next(row);) {
    rows.push_back(std::move(row));
    if (rows.size() == kDocumentsAtATime) encode();
  }
  encode();
  if (!options.skip_last && !buffer.empty()) writer.add({.ids = buffer.rest()});
}

StreamPtr stream_chunks(RowSource source, TextContext context, PretrainingOptions options, std::string name) {
  return std::make_shared<ChunkStream>(std::move(source), std::move(context), std::move(options), std::move(name));
}

}  // namespace oumi
