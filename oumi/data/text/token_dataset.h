// Map-style dataset over encoded samples, and samples changed on their way.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "oumi/data/dataset.h"
#include "oumi/data/text/token_file.h"

namespace oumi {

// Samples of input_ids, attention_mask (ones) and labels, each int64 [length].
class TokenDataset : public MapDataset {
 public:
  TokenDataset(std::shared_ptr<const TokenFile> tokens, std::string name, std::string fingerprint);

  std::optional<std::int64_t> length() const override { return tokens_->rows(); }
  Sample get(std::int64_t index) override;
  std::string name() const override { return name_; }
  std::string fingerprint() const override { return fingerprint_; }
  std::optional<std::int64_t> sample_length(std::int64_t index) const override { return tokens_->counts(index).tokens; }
  std::optional<TokenCounts> token_counts(std::int64_t index) const override { return tokens_->counts(index); }

 private:
  std::shared_ptr<const TokenFile> tokens_;
  std::string name_, fingerprint_;
};

// {input_ids, attention_mask, labels} as tensors.
Sample token_sample(TokenSpan ids, TokenSpan labels);
// A one-dimensional field of whole numbers as token ids. Throws UserError naming `origin` for other shapes and dtypes.
TokenIds token_field(const Sample& sample, const std::string& field, const std::string& origin);

// `change` applied to every sample, map-style or iterable as `dataset` is.
DatasetPtr change_samples(DatasetPtr dataset, std::function<Sample(Sample)> change, const std::string& description);

// The field's counts: of token_counts where the dataset knows them, else of the sample itself.
TokenCounts counts_of(Dataset& dataset, std::int64_t index);

}  // namespace oumi
