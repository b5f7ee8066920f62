// Samplers: the order in which a loader visits a map-style dataset. Names and orders are PyTorch's (torch.utils.data) and
// accelerate's; tests/golden/data_order.py holds them to it.
//
// Unlike PyTorch's, a sampler here is read by position and not only iterated, so that a resumed run seeks in O(1).
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "oumi/base/json.h"

namespace oumi {

// Not thread-safe: the loader reads it from one thread at a time.
class Sampler {
 public:
  virtual ~Sampler() = default;

  // Number of indices in an epoch.
  virtual std::int64_t size() const = 0;
  // Fixes the order of an epoch. Called before at(); calling it again for the epoch that is current keeps the order.
  virtual void start_epoch(std::int64_t epoch) { (void)epoch; }
  // The index at `position` of [0, size()) in the current epoch's order.
  virtual std::int64_t at(std::int64_t position) const = 0;

  // What start_epoch needs, beside the epoch's number, to give the current epoch's order again. O(1) in size.
  virtual Json state_dict() const { return Json::object(); }
  virtual void load_state_dict(const Json& state) { (void)state; }
};

using SamplerPtr = std::shared_ptr<Sampler>;

// A fresh CPU generator, as torch.Generator().manual_seed(seed).
at::Generator make_generator(std::uint64_t seed);

// 0, 1, ..., n - 1.
class SequentialSampler : public Sampler {
 public:
  explicit SequentialSampler(std::int64_t n);
  std::int64_t size() const override { return n_; }
  std::int64_t at(std::int64_t position) const override { return position; }

 private:
  std::int64_t n_;
};

// accelerate's SeedableRandomSampler, which transformers' Trainer shuffles with: epoch e is randperm(n) of a CPU generator
// seeded with seed + e. The loader's `shuffle` option. Has no state: any epoch can be started at any time.
class SeedableRandomSampler : public Sampler {
 public:
  SeedableRandomSampler(std::int64_t n, std::uint64_t seed);
  std::int64_t size() const override { return n_; }
  void start_epoch(std::int64_t epoch) override;
  std::int64_t at(std::int64_t position) const override { return order_[position]; }

 private:
  std::int64_t n_;
  std::uint64_t seed_;
  std::optional<std::int64_t> epoch_;
  at::Tensor order_tensor_;  // int64 [n]
  const std::int64_t* order_ = nullptr;
};

// What samplers that draw from a generator share. Each new epoch draws on from where the last one stopped, as in PyTorch;
// without a generator each epoch takes its seed from the process's global CPU generator. The state is the generator's
// (10 KB of text), or that seed.
class GeneratorSampler : public Sampler {
 public:
  void start_epoch(std::int64_t epoch) final;
  std::int64_t at(std::int64_t position) const final { return order_[static_cast<std::size_t>(position)]; }
  Json state_dict() const final;
  void load_state_dict(const Json& state) final;

 protected:
  explicit GeneratorSampler(std::optional<at::Generator> generator) : generator_(std::move(generator)) {}
  virtual std::vector<std::int64_t> draw(at::Generator& generator) const = 0;

 private:
  std::optional<at::Generator> generator_;
  std::optional<std::int64_t> epoch_;
  std::optional<std::uint64_t> next_seed_;  // of a loaded state: the seed that the next start_epoch uses
  Json epoch_state_ = Json::object();       // what the current epoch was drawn from
  std::vector<std::int64_t> order_;
};

struct RandomSamplerOptions {
  bool replacement = false;
  std::optional<std::int64_t> num_samples = std::nullopt;  // indices an epoch; n when absent
  std::optional<at::Generator> generator = std::nullopt;
};

// torch.utils.data.RandomSampler.
class RandomSampler : public GeneratorSampler {
 public:
  // Throws UserError when num_samples is below 1.
  explicit RandomSampler(std::int64_t n, RandomSamplerOptions options = {});
  std::int64_t size() const override { return num_samples_; }

 protected:
  std::vector<std::int64_t> draw(at::Generator& generator) const override;

 private:
  std::int64_t n_, num_samples_;
  bool replacement_;
};

// torch.utils.data.SubsetRandomSampler: the given indices, shuffled.
class SubsetRandomSampler : public GeneratorSampler {
 public:
  explicit SubsetRandomSampler(std::vector<std::int64_t> indices, std::optional<at::Generator> generator = std::nullopt);
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }

 protected:
  std::vector<std::int64_t> draw(at::Generator& generator) const override;

 private:
  std::vector<std::int64_t> indices_;
};

struct WeightedRandomSamplerOptions {
  std::int64_t num_samples = 0;  // required
  bool replacement = true;
  std::optional<at::Generator> generator = std::nullopt;
};

// torch.utils.data.WeightedRandomSampler: index i is drawn with a probability proportional to weights[i].
class WeightedRandomSampler : public GeneratorSampler {
 public:
  // Throws UserError for negative or non-finite weights, a zero sum, num_samples below 1, or more samples than positive
  // weights when drawing without replacement.
  WeightedRandomSampler(std::vector<double> weights, WeightedRandomSamplerOptions options);
  std::int64_t size() const override { return num_samples_; }

 protected:
  std::vector<std::int64_t> draw(at::Generator& generator) const override;

 private:
  std::vector<double> weights_;
  std::int64_t num_samples_;
  bool replacement_;
};

struct DistributedSamplerOptions {
  std::int64_t num_replicas = 1;
  std::int64_t rank = 0;
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool drop_last = false;
};

// torch.utils.data.DistributedSampler: rank r takes indices r, r + W, ... of an order padded with its own head (or cut, with
// drop_last) to a multiple of W. For a loader with world_size 1: a loader with more splits batches between ranks itself.
class DistributedSampler : public Sampler {
 public:
  // Throws UserError when rank is outside [0, num_replicas).
  DistributedSampler(std::int64_t n, DistributedSamplerOptions options);
  std::int64_t size() const override { return num_samples_; }
  void start_epoch(std::int64_t epoch) override;
  std::int64_t at(std::int64_t position) const override;

 private:
  std::int64_t n_, num_samples_;
  DistributedSamplerOptions options_;
  std::optional<SeedableRandomSampler> shuffled_;
};

}  // namespace oumi
