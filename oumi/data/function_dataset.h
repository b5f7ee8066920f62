// Datasets from lambdas.
#pragma once

#include <functional>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/dataset.h"

namespace oumi {

// Map-style: sample i is make(i). `make` is called from several loader threads at once.
class FunctionDataset : public MapDataset {
 public:
  FunctionDataset(std::int64_t size, std::function<Sample(std::int64_t)> make, std::string name = "function")
      : size_(size), make_(std::move(make)), name_(std::move(name)) {
    if (size_ < 0) throw UserError(name_, cat("expected a size of at least 0, got ", size_));
  }
  std::optional<std::int64_t> length() const override { return size_; }
  Sample get(std::int64_t index) override {
    if (index < 0 || index >= size_)
      throw UserError(name_, cat("sample ", index, " is out of range: expected an index in [0, ", size_, ")"));
    return make_(index);
  }
  std::string name() const override { return name_; }
  std::string fingerprint() const override { return cat(name_, "/", size_); }

 private:
  std::int64_t size_;
  std::function<Sample(std::int64_t)> make_;
  std::string name_;
};

// Iterable: `start(epoch)` gives the generator of an epoch, which returns samples until nullopt. Resuming runs it again up
// to the place where it stood.
class GeneratorDataset : public IterableDataset {
 public:
  using Generator = std::function<std::optional<Sample>()>;

  explicit GeneratorDataset(std::function<Generator(std::int64_t epoch)> start, std::string name = "generator")
      : start_(std::move(start)), name_(std::move(name)) {}

  std::optional<Sample> next() override {
    if (!generator_) generator_ = start_(epoch());
    for (; taken_ % world_size_ != rank_; ++taken_) {
      if (!generator_()) return std::nullopt;
    }
    std::optional<Sample> sample = generator_();
    if (sample) ++taken_;
    return sample;
  }
  void shard(std::int64_t rank, std::int64_t world_size) override {
    if (world_size < 1 || rank < 0 || rank >= world_size)
      throw UserError(name_, cat("expected 0 <= rank < world size, got rank ", rank, " of ", world_size));
    rank_ = rank;
    world_size_ = world_size;
  }
  void set_epoch(std::int64_t epoch) override {
    Dataset::set_epoch(epoch);
    generator_ = nullptr;
    taken_ = 0;
  }
  Json state_dict() const override { return Json{{"epoch", epoch()}, {"taken", taken_}, {"world_size", world_size_}}; }
  void load_state_dict(const Json& state) override {
    set_epoch(state.at("epoch").get<std::int64_t>());
    generator_ = start_(epoch());
    // To the end of the ranks' round that was begun.
    const auto world_size = state.at("world_size").get<std::int64_t>();
    const auto target = (state.at("taken").get<std::int64_t>() + world_size - 1) / world_size * world_size;
    while (taken_ < target && generator_()) ++taken_;
  }
  std::string name() const override { return name_; }

 private:
  std::function<Generator(std::int64_t)> start_;
  std::string name_;
  Generator generator_;
  std::int64_t taken_ = 0, rank_ = 0, world_size_ = 1;
};

}  // namespace oumi
