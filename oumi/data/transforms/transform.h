// Changes to one field of a sample on its way out of a dataset: scaling, normalising, resizing, cropping, flipping.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "oumi/base/kwargs.h"
#include "oumi/data/random.h"
#include "oumi/tensors/tensor_dict.h"

namespace oumi {

// Thread-safe: apply is called from several loader threads at once.
class Transform {
 public:
  virtual ~Transform() = default;

  // `value` is one sample ([channels, height, width] for images) when batch_dims is 0, or [batch, ...] when it is 1;
  // random transforms only see single samples. Throws UserError when shape or dtype do not fit.
  virtual Tensor apply(const Tensor& value, SampleRng& rng, int batch_dims) const = 0;

  virtual bool is_random() const { return false; }
  // True when each output element depends on the input element at the same place and its channel alone: a chain of such
  // transforms over bytes becomes one table look-up.
  virtual bool is_elementwise() const { return false; }
};

using TransformPtr = std::shared_ptr<const Transform>;
using TransformFactory = std::function<TransformPtr(const Kwargs&)>;

// Adds a transform that `dataset_kwargs.transforms` can name. Throws UserError when the name is taken.
void register_transform(const std::string& name, TransformFactory factory);

// A chain of transforms. Random ones draw from a stream that is a function of (seed, epoch, sample index).
class TransformPipeline {
 public:
  TransformPipeline() = default;
  TransformPipeline(std::vector<TransformPtr> transforms, std::uint64_t seed, std::string description);

  // Reads `transforms`, `mean` and `std` of `kwargs`: a list of {name: ..., options...} (or names alone), run in order, then
  // a normalisation with mean and std (numbers, or one per channel). `first` run before all. Throws UserError naming the
  // entry: unknown transform (with the nearest), unknown option, wrong type.
  static TransformPipeline from_kwargs(const Kwargs& kwargs, std::uint64_t seed, const std::vector<std::string>& first = {});

  bool empty() const noexcept { return transforms_.empty(); }
  bool is_random() const;
  Tensor apply(Tensor sample, std::int64_t epoch, std::int64_t index) const;
  // For chains that are not random: the same for [batch, ...] at once.
  Tensor apply_to_batch(Tensor batch) const;
  // What an elementwise chain makes of each byte, as float32 [channels, 256], for samples of these sizes (channels is 1
  // where all channels are treated alike); undefined when the chain cannot be written as such a table.
  Tensor byte_table(c10::IntArrayRef sample_sizes) const;

  // Text that changes when the transforms do: part of the dataset's fingerprint.
  const std::string& description() const noexcept { return description_; }

 private:
  std::vector<TransformPtr> transforms_;
  std::uint64_t seed_ = 0;
  std::string description_;
};

}  // namespace oumi
