// torch::data datasets in our loader, and ours in torch::data's. Header-only and included by no source of the library:
// <torch/data.h> takes seconds to parse.
#pragma once

#include <torch/data/datasets/base.h>
#include <torch/data/example.h>

#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/dataset.h"

namespace oumi {

struct TorchFieldNames {
  std::string data = "images", target = "labels";
};

// A map-style torch::data dataset of Example<> (data, target) or of single tensors. `TorchDataset` needs a thread-safe get
// when the loader has workers.
template <class TorchDataset>
class FromTorchData : public MapDataset {
 public:
  explicit FromTorchData(TorchDataset dataset, TorchFieldNames names = {})
      : dataset_(std::move(dataset)), names_(std::move(names)) {
    const auto size = dataset_.size();
    if (!size) throw UserError("torch::data", "expected a dataset with a size, got a stateless stream");
    size_ = static_cast<std::int64_t>(*size);
  }
  std::optional<std::int64_t> length() const override { return size_; }
  Sample get(std::int64_t index) override {
    if (index < 0 || index >= size_)
      throw UserError(name(), cat("sample ", index, " is out of range: expected an index in [0, ", size_, ")"));
    auto example = dataset_.get(static_cast<std::size_t>(index));
    Sample sample;
    if constexpr (std::is_convertible_v<decltype(example), Tensor>) {
      sample.set(names_.data, std::move(example));
    } else {
      sample.set(names_.data, std::move(example.data));
      if constexpr (std::is_convertible_v<decltype(example.target), Tensor>)
        sample.set(names_.target, std::move(example.target));
    }
    return sample;
  }
  std::string name() const override { return "torch::data"; }

 private:
  TorchDataset dataset_;
  TorchFieldNames names_;
  std::int64_t size_ = 0;
};

template <class TorchDataset>
DatasetPtr from_torch_data(TorchDataset dataset, TorchFieldNames names = {}) {
  return std::make_shared<FromTorchData<TorchDataset>>(std::move(dataset), std::move(names));
}

// One of our map-style datasets as torch::data's: torch::data::make_data_loader(ToTorchData(dataset).map(Stack<>()), ...).
class ToTorchData : public torch::data::datasets::Dataset<ToTorchData> {
 public:
  explicit ToTorchData(DatasetPtr dataset, TorchFieldNames names = {})
      : dataset_(std::move(dataset)), names_(std::move(names)) {
    if (!dataset_->is_map_style()) throw UserError(dataset_->name(), "expected a map-style dataset, got an iterable one");
  }
  torch::data::Example<> get(std::size_t index) override {
    const Sample sample = dataset_->get(static_cast<std::int64_t>(index));
    const Tensor* target = sample.find(names_.target);
    return {sample.at(names_.data), target == nullptr ? Tensor() : *target};
  }
  std::optional<std::size_t> size() const override { return static_cast<std::size_t>(dataset_->size()); }

 private:
  DatasetPtr dataset_;
  TorchFieldNames names_;
};

}  // namespace oumi
