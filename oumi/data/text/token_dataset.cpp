#include "oumi/data/text/token_dataset.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/ones.h>

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/stream.h"

namespace oumi {
namespace {

Tensor ids_tensor(TokenSpan ids) {
  Tensor tensor = at::detail::empty_cpu({static_cast<std::int64_t>(ids.size())}, c10::kLong);
  std::copy(ids.begin(), ids.end(), tensor.mutable_data_ptr<std::int64_t>());
  return tensor;
}

class ChangedDataset : public MapDataset {
 public:
  ChangedDataset(DatasetPtr dataset, std::function<Sample(Sample)> change, std::string description)
      : dataset_(std::move(dataset)), change_(std::move(change)), description_(std::move(description)) {}

  std::optional<std::int64_t> length() const override { return dataset_->length(); }
  Sample get(std::int64_t index) override { return change_(dataset_->get(index)); }
  void set_epoch(std::int64_t epoch) override {
    Dataset::set_epoch(epoch);
    dataset_->set_epoch(epoch);
  }
  std::string name() const override { return dataset_->name(); }
  std::string fingerprint() const override { return dataset_->fingerprint() + "|" + description_; }
  std::vector<std::string> class_names() const override { return dataset_->class_names(); }

 private:
  DatasetPtr dataset_;
  std::function<Sample(Sample)> change_;
  std::string description_;
};

class ChangedStream : public Stream {
 public:
  ChangedStream(StreamPtr stream, std::function<Sample(Sample)> change, std::string description)
      : stream_(std::move(stream)), change_(std::move(change)), description_(std::move(description)) {}

  std::optional<Sample> produce() override {
    auto sample = stream_->produce();
    if (sample) *sample = change_(std::move(*sample));
    return sample;
  }
  bool skip() override { return stream_->skip(); }
  void set_epoch(std::int64_t epoch) override {
    stream_->set_epoch(epoch);
    Stream::set_epoch(epoch);
  }
  void rewind() override { stream_->rewind(); }
  Json position() const override { return stream_->position(); }
  void seek(const Json& position) override { stream_->seek(position); }
  std::optional<std::int64_t> length() const override { return stream_->length(); }
  std::string name() const override { return stream_->name(); }
  std::string fingerprint() const override { return stream_->fingerprint() + "|" + description_; }

 private:
  StreamPtr stream_;
  std::function<Sample(Sample)> change_;
  std::string description_;
};

}  // namespace

Sample token_sample(TokenSpan ids, TokenSpan labels) {
  Sample sample;
  sample.set("input_ids", ids_tensor(ids));
  sample.set("attention_mask", at::ones({static_cast<std::int64_t>(ids.size())}, at::TensorOptions(c10::kLong)));
  sample.set("labels", ids_tensor(labels));
  return sample;
}

TokenIds token_field(const Sample& sample, const std::string& field, const std::string& origin) {
  const Tensor& tensor = sample.at(field);
  if (tensor.dim() != 1 || !c10::isIntegralType(tensor.scalar_type(), /*includeBool=*/true)) {
    throw UserError(origin, cat("column '", field, "': expected one list of whole numbers per sample, got ",
                                tensor.scalar_type(), " ", tensor.sizes()));
  }
  const Tensor wide = tensor.to(c10::kLong).contiguous();
  const auto* data = wide.const_data_ptr<std::int64_t>();
  TokenIds ids(static_cast<std::size_t>(wide.numel()));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (data[i] != static_cast<std::int32_t>(data[i]))
      throw UserError(origin, cat("column '", field, "': expected a token id, got ", data[i], " at position ", i));
    ids[i] = static_cast<std::int32_t>(data[i]);
  }
  return ids;
}

TokenDataset::TokenDataset(std::shared_ptr<const TokenFile> tokens, std::string name, std::string fingerprint)
    : tokens_(std::move(tokens)), name_(std::move(name)), fingerprint_(std::move(fingerprint)) {}

Sample TokenDataset::get(std::int64_t index) {
  if (index < 0 || index >= tokens_->rows()) {
    throw UserError(name_, cat("sample ", index, " is out of range: expected an index in [0, ", tokens_->rows(), ")"));
  }
  return token_sample(tokens_->ids(index), tokens_->labels(index));
}

DatasetPtr change_samples(DatasetPtr dataset, std::function<Sample(Sample)> change, const std::string& description) {
  if (dataset->is_map_style()) return std::make_shared<ChangedDataset>(std::move(dataset), std::move(change), description);
  return std::make_shared<ChangedStream>(as_stream(std::move(dataset)), std::move(change), description);
}

TokenCounts counts_of(Dataset& dataset, std::int64_t index) {
  if (const auto counts = dataset.token_counts(index)) return *counts;
  const Sample sample = dataset.get(index);
  const std::string origin = cat(dataset.name(), ", sample ", index);
  const TokenIds ids = token_field(sample, "input_ids", origin);
  return sample.contains("labels") ? count_tokens(ids, token_field(sample, "labels", origin)) : count_tokens(ids, ids);
}

}  // namespace oumi
