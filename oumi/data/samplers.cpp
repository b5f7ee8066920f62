#include "oumi/data/samplers.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

// Dataset sizes come from datasets of users, so that a negative one is caught where it enters.
std::int64_t checked_size(std::int64_t n, const char* who) {
  if (n < 0) throw UserError(who, cat("number of samples: expected 0 or more, got ", n));
  return n;
}

void append(std::vector<std::int64_t>& order, const at::Tensor& drawn, std::int64_t count) {
  const std::int64_t* data = drawn.const_data_ptr<std::int64_t>();
  order.insert(order.end(), data, data + count);
}

std::string to_hex(const at::Tensor& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  const std::uint8_t* data = bytes.const_data_ptr<std::uint8_t>();
  std::string text;
  text.reserve(static_cast<std::size_t>(bytes.numel()) * 2);
  for (std::int64_t i = 0; i < bytes.numel(); ++i) {
    text += kDigits[data[i] >> 4];
    text += kDigits[data[i] & 15];
  }
  return text;
}

at::Tensor from_hex(const std::string& text) {
  const auto digit = [&](char c) -> std::uint8_t {
    if (c >= '0' && c <= '9') return static_cast<std::uint8_t>(c - '0');
    if (c >= 'a' && c <= 'f') return static_cast<std::uint8_t>(c - 'a' + 10);
    throw UserError("sampler", "state of the generator: expected hexadecimal digits",
                    "the checkpoint's loader state is damaged");
  };
  at::Tensor bytes = at::empty({static_cast<std::int64_t>(text.size() / 2)}, at::kByte);
  std::uint8_t* data = bytes.mutable_data_ptr<std::uint8_t>();
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    data[i / 2] = static_cast<std::uint8_t>(digit(text[i]) << 4 | digit(text[i + 1]));
  }
  return bytes;
}

}  // namespace

at::Generator make_generator(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

SequentialSampler::SequentialSampler(std::int64_t n) : n_(checked_size(n, "SequentialSampler")) {}

SeedableRandomSampler::SeedableRandomSampler(std::int64_t n, std::uint64_t seed)
    : n_(checked_size(n, "SeedableRandomSampler")), seed_(seed) {}

void SeedableRandomSampler::start_epoch(std::int64_t epoch) {
  if (epoch_ == epoch) return;
  order_tensor_ = at::randperm(n_, make_generator(seed_ + static_cast<std::uint64_t>(epoch)), at::kLong);
  order_ = order_tensor_.const_data_ptr<std::int64_t>();
  epoch_ = epoch;
}

void GeneratorSampler::start_epoch(std::int64_t epoch) {
  if (epoch_ == epoch) return;
  if (generator_ && !next_seed_) {
    epoch_state_ = Json{{"generator", to_hex(generator_->get_state())}};
    order_ = draw(*generator_);
  } else {
    // PyTorch draws one signed 64-bit integer from the global generator and seeds a new one with it.
    const auto seed =
        next_seed_ ? *next_seed_ : static_cast<std::uint64_t>(at::empty({}, at::kLong).random_().item<std::int64_t>());
    at::Generator generator = make_generator(seed);
    epoch_state_ = Json{{"seed", seed}};
    order_ = draw(generator);
  }
  next_seed_.reset();
  epoch_ = epoch;
}

Json GeneratorSampler::state_dict() const {
  if (!epoch_ && generator_) return Json{{"generator", to_hex(generator_->get_state())}};
  return epoch_state_;
}

void GeneratorSampler::load_state_dict(const Json& state) {
  epoch_.reset();
  next_seed_.reset();
  if (const auto bytes = state.find("generator"); bytes != state.end() && bytes->is_string()) {
    const at::Tensor loaded = from_hex(bytes->get<std::string>());
    if (!generator_) generator_ = make_generator(0);
    const std::int64_t expected = generator_->get_state().numel();
    if (loaded.numel() != expected) {
      throw UserError("sampler", cat("state of the generator: expected ", expected, " bytes, got ", loaded.numel()),
                      "the checkpoint's loader state is damaged");
    }
    generator_->set_state(loaded);
  } else if (const auto seed = state.find("seed"); seed != state.end() && seed->is_number_integer()) {
    next_seed_ = seed->get<std::uint64_t>();
  }
}

RandomSampler::RandomSampler(std::int64_t n, RandomSamplerOptions options)
    : GeneratorSampler(std::move(options.generator)),
      n_(checked_size(n, "RandomSampler")),
      num_samples_(options.num_samples.value_or(n)),
      replacement_(options.replacement) {
  if (options.num_samples && num_samples_ < 1) {
    throw UserError("RandomSampler", cat("num_samples: expected 1 or more, got ", num_samples_));
  }
  if (n_ == 0 && num_samples_ > 0)
    throw UserError("RandomSampler", cat("cannot draw ", num_samples_, " samples from an empty dataset"));
}

std::vector<std::int64_t> RandomSampler::draw(at::Generator& generator) const {
  std::vector<std::int64_t> order;
  if (num_samples_ == 0) return order;
  order.reserve(static_cast<std::size_t>(num_samples_));
  if (replacement_) {
    constexpr std::int64_t kChunk = 32;  // PyTorch draws in chunks of 32
    while (size() - static_cast<std::int64_t>(order.size()) >= kChunk)
      append(order, at::randint(n_, {kChunk}, generator, at::kLong), kChunk);
    const std::int64_t rest = num_samples_ % kChunk;
    append(order, at::randint(n_, {rest}, generator, at::kLong), rest);
  } else {
    for (std::int64_t i = 0; i < num_samples_ / n_; ++i) append(order, at::randperm(n_, generator, at::kLong), n_);
    append(order, at::randperm(n_, generator, at::kLong), num_samples_ % n_);  // drawn even when nothing of it is used
  }
  return order;
}

SubsetRandomSampler::SubsetRandomSampler(std::vector<std::int64_t> indices, std::optional<at::Generator> generator)
    : GeneratorSampler(std::move(generator)), indices_(std::move(indices)) {}

std::vector<std::int64_t> SubsetRandomSampler::draw(at::Generator& generator) const {
  std::vector<std::int64_t> order;
  append(order, at::randperm(size(), generator, at::kLong), size());
  for (std::int64_t& index : order) index = indices_[static_cast<std::size_t>(index)];
  return order;
}

WeightedRandomSampler::WeightedRandomSampler(std::vector<double> weights, WeightedRandomSamplerOptions options)
    : GeneratorSampler(std::move(options.generator)),
      weights_(std::move(weights)),
      num_samples_(options.num_samples),
      replacement_(options.replacement) {
  const char* who = "WeightedRandomSampler";
  if (num_samples_ < 1) throw UserError(who, cat("num_samples: expected 1 or more, got ", num_samples_));
  std::int64_t positive = 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (!std::isfinite(weights_[i]) || weights_[i] < 0) {
      throw UserError(who, cat("weights[", i, "]: expected a finite number of 0 or more, got ", weights_[i]));
    }
    positive += weights_[i] > 0;
  }
  if (positive == 0) throw UserError(who, "weights: expected at least one above 0, got none");
  if (!replacement_ && num_samples_ > positive) {
    throw UserError(who, cat("num_samples: expected at most ", positive, ", the number of weights above 0, got ", num_samples_),
                    "set replacement, or ask for fewer samples");
  }
}

std::vector<std::int64_t> WeightedRandomSampler::draw(at::Generator& generator) const {
  std::vector<std::int64_t> order;
  append(order, at::multinomial(at::tensor(weights_, at::kDouble), num_samples_, replacement_, generator), num_samples_);
  return order;
}

DistributedSampler::DistributedSampler(std::int64_t n, DistributedSamplerOptions options)
    : n_(checked_size(n, "DistributedSampler")), options_(options) {
  const std::int64_t replicas = options_.num_replicas;
  if (replicas < 1) throw UserError("DistributedSampler", cat("num_replicas: expected 1 or more, got ", replicas));
  if (options_.rank < 0 || options_.rank >= replicas) {
    throw UserError("DistributedSampler", cat("rank: expected 0 to ", replicas - 1, ", got ", options_.rank));
  }
  num_samples_ = options_.drop_last ? n_ / replicas : (n_ + replicas - 1) / replicas;
  if (options_.shuffle) shuffled_.emplace(n_, options_.seed);
}

void DistributedSampler::start_epoch(std::int64_t epoch) {
  if (shuffled_) shuffled_->start_epoch(epoch);
}

std::int64_t DistributedSampler::at(std::int64_t position) const {
  const std::int64_t index = (options_.rank + position * options_.num_replicas) % n_;
  return shuffled_ ? shuffled_->at(index) : index;
}

}  // namespace oumi
