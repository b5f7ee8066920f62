#include "oumi/data/text/megatron_dataset.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/megatron_indexed.h"
#include "oumi/data/text/rows.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {
namespace {

struct RowOptions {
  std::int64_t seq_length = 0;                            // 0: a row for each document
  std::optional<std::int32_t> concat_id = std::nullopt;   // between documents that are joined
  bool skip_last = true;                                  // of joined documents
  std::optional<std::int64_t> max_length = std::nullopt;  // of single documents
  bool keep_end = false;                                  // of a document that is cut
};

class MegatronDataset : public MapDataset {
 public:
  MegatronDataset(const std::filesystem::path& prefix, const RowOptions& options) : file_(prefix), options_(options) {
    if (options_.seq_length == 0) find_documents();
    const std::int64_t joined = place_of(file_.documents()) - (options_.concat_id && file_.documents() > 0 ? 1 : 0);
    rows_ = options_.seq_length == 0 ? static_cast<std::int64_t>(documents_.size())
                                     : (joined + (options_.skip_last ? 0 : options_.seq_length - 1)) / options_.seq_length;
    tokens_ = joined;
  }

  std::optional<std::int64_t> length() const override { return rows_; }
  Sample get(std::int64_t index) override {
    if (index < 0 || index >= rows_)
      throw UserError(name(), cat("sample ", index, " is out of range: expected an index in [0, ", rows_, ")"));
    const TokenIds ids = row(index);
    return token_sample(ids, ids);
  }
  std::string name() const override { return file_.files().bin.filename().string(); }
  std::string fingerprint() const override {
    return cat(files_fingerprint({file_.files().idx, file_.files().bin}), '|', options_.seq_length, '|',
               options_.concat_id.value_or(-1), options_.skip_last, '|', options_.max_length.value_or(0), options_.keep_end);
  }
  std::optional<std::int64_t> sample_length(std::int64_t index) const override {
    if (options_.seq_length > 0) return std::min(options_.seq_length, tokens_ - index * options_.seq_length);
    const Span span = document(index);
    return span.end - span.begin;
  }
  std::optional<TokenCounts> token_counts(std::int64_t index) const override {
    const TokenIds ids = row(index);
    TokenCounts counts = count_tokens(ids, ids);
    if (options_.seq_length == 0) counts.dropped = document(index).dropped;
    return counts;
  }

 private:
  struct Span {
    std::int64_t begin, end, dropped;
  };

  // Documents without tokens are no samples. Without such, document and row have one number.
  void find_documents() {
    for (std::int64_t d = 0; d < file_.documents(); ++d) {
      if (file_.begin_of(d + 1) > file_.begin_of(d)) documents_.push_back(d);
    }
  }

  Span document(std::int64_t index) const {
    const std::int64_t d = documents_[static_cast<std::size_t>(index)];
    Span span{file_.begin_of(d), file_.begin_of(d + 1), 0};
    if (!options_.max_length || span.end - span.begin <= *options_.max_length) return span;
    span.dropped = span.end - span.begin - *options_.max_length;
    (options_.keep_end ? span.begin : span.end) += options_.keep_end ? span.dropped : -span.dropped;
    return span;
  }

  // Where document d begins among the joined tokens, each document's separator behind it.
  std::int64_t place_of(std::int64_t d) const { return file_.begin_of(d) + (options_.concat_id ? d : 0); }

  TokenIds row(std::int64_t index) const {
    if (options_.seq_length == 0) {
      const Span span = document(index);
      return file_.read(span.begin, span.end);
    }
    const std::int64_t begin = index * options_.seq_length, end = std::min(begin + options_.seq_length, tokens_);
    return options_.concat_id ? joined(begin, end) : file_.read(begin, end);
  }

  TokenIds joined(std::int64_t begin, std::int64_t end) const {
    // The last document that begins at or before `begin`.
    std::int64_t d = 0, beyond = file_.documents();
    while (beyond - d > 1) {
      const std::int64_t middle = d + (beyond - d) / 2;
      (place_of(middle) <= begin ? d : beyond) = middle;
    }
    TokenIds ids;
    ids.reserve(static_cast<std::size_t>(end - begin));
    for (std::int64_t at = begin; at < end; ++d) {
      const std::int64_t first = file_.begin_of(d), stop = file_.begin_of(d + 1), start = first + (at - place_of(d));
      const TokenIds part = file_.read(start, std::min(stop, start + (end - at)));
      ids.insert(ids.end(), part.begin(), part.end());
      at += static_cast<std::int64_t>(part.size());
      if (at == end) break;
      ids.push_back(*options_.concat_id);
      ++at;
    }
    return ids;
  }

  MegatronIndexed file_;
  RowOptions options_;
  std::vector<std::int64_t> documents_;  // of single documents: those with tokens
  std::int64_t rows_ = 0, tokens_ = 0;   // tokens: of joined documents, with separators
};

RowOptions row_options(const DatasetRequest& request) {
  const Kwargs& kwargs = request.kwargs;
  RowOptions options;
  options.max_length = request.text.max_length;
  if (request.text.tokenizer != nullptr) options.keep_end = request.text.tokenizer->truncation_side() == TruncationSide::kLeft;
  if (!kwargs.contains("seq_length")) {
    for (const char* name : {"append_concat_token", "skip_last"}) {
      if (kwargs.contains(name))
        throw UserError(kwargs.origin() + "." + name,
                        "is about documents that are joined: expected seq_length beside it, got none");
    }
    return options;
  }
  options.seq_length = kwargs.require<std::int64_t>("seq_length");
  if (options.seq_length < 1)
    throw UserError(kwargs.origin() + ".seq_length", cat("expected a row's length in tokens, got ", options.seq_length));
  options.skip_last = kwargs.get<bool>("skip_last", true);
  if (!kwargs.get<bool>("append_concat_token", false)) return options;
  if (request.text.tokenizer != nullptr) options.concat_id = request.text.tokenizer->eos_id();
  if (!options.concat_id) {
    throw UserError(kwargs.origin() + ".append_concat_token",
                    "there is no end-of-text token to put between documents: expected a tokenizer with one",
                    "set model.tokenizer_name to its folder, or append_concat_token to false");
  }
  return options;
}

}  // namespace

DatasetPtr make_megatron_indexed(const DatasetRequest& request) {
  if (!request.path)
    throw UserError(request.key + ".dataset_path", "is required for dataset '" + request.name + "'",
                    "set it to the prefix of a .bin and an .idx file");
  const RowOptions options = row_options(request);
  auto dataset = std::make_shared<MegatronDataset>(*request.path, options);
  if (dataset->length() == 0) {
    throw UserError(request.key, "'" + dataset->name() + "' has no samples: expected " +
                                     (options.seq_length > 0 ? "at least one row of tokens" : "documents with tokens") +
                                     ", got none");
  }
  return dataset;
}

}  // namespace oumi
