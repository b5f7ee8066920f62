#include "oumi/data/text/packed_stream.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::size_t kRun = 1000;  // samples; what datasets.map hands to TRL's packing at once

class SampleList : public MapDataset {
 public:
  SampleList(std::vector<Sample> samples, std::string name) : samples_(std::move(samples)), name_(std::move(name)) {}
  std::optional<std::int64_t> length() const override { return static_cast<std::int64_t>(samples_.size()); }
  Sample get(std::int64_t index) override { return samples_[static_cast<std::size_t>(index)]; }
  std::string name() const override { return name_; }

 private:
  std::vector<Sample> samples_;
  std::string name_;
};

class PackedStream : public Stream {
 public:
  PackedStream(StreamPtr inner, const PackOptions& options) : inner_(std::move(inner)), options_(options) {}

  std::optional<Sample> produce() override { return advance() ? std::optional(rows_->get(at_++)) : std::nullopt; }
  bool skip() override {
    if (!advance()) return false;
    ++at_;
    return true;
  }
  void set_epoch(std::int64_t epoch) override {
    inner_->set_epoch(epoch);
    Stream::set_epoch(epoch);
  }
  void rewind() override {
    inner_->rewind();
    clear();
  }
  Json position() const override {
    return is_used_up() ? Json{{"run", inner_->position()}, {"at", 0}} : Json{{"run", run_start_}, {"at", at_}};
  }
  void seek(const Json& position) override {
    inner_->seek(position.at("run"));
    clear();
    const auto at = position.at("at").get<std::int64_t>();
    if (at == 0) return;
    if (!fill() || at > rows_->size()) throw UserError(name(), "state: the data has fewer samples than when it was saved");
    at_ = at;
  }
  std::string name() const override { return inner_->name(); }
  std::string fingerprint() const override {
    return cat(inner_->fingerprint(), "|packed ", kRun, ' ', static_cast<int>(options_.strategy), ' ', options_.seq_length, ' ',
               options_.separator_id);
  }

 private:
  bool is_used_up() const { return rows_ == nullptr || at_ >= rows_->size(); }
  void clear() {
    rows_ = nullptr;
    at_ = 0;
  }
  // False at the end. A run of empty samples has no rows.
  bool advance() {
    while (is_used_up()) {
      if (!fill()) return false;
    }
    return true;
  }
  bool fill() {
    clear();
    run_start_ = inner_->position();
    std::vector<Sample> samples;
    while (samples.size() < kRun) {
      std::optional<Sample> sample = inner_->produce();
      if (!sample) break;
      samples.push_back(std::move(*sample));
    }
    if (samples.empty()) return false;
    rows_ = std::make_shared<PackedDataset>(std::make_shared<SampleList>(std::move(samples), inner_->name()), options_);
    return true;
  }

  StreamPtr inner_;
  PackOptions options_;
  std::shared_ptr<PackedDataset> rows_;  // of the run at hand
  std::int64_t at_ = 0;                  // in rows_
  Json run_start_;
};

}  // namespace

StreamPtr pack_stream(StreamPtr stream, const PackOptions& options) {
  return std::make_shared<PackedStream>(std::move(stream), options);
}

}  // namespace oumi
