#include <algorithm>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/data/stream.h"

namespace oumi {
namespace {

// A map-style dataset in order.
class MapStream : public Stream {
 public:
  explicit MapStream(DatasetPtr dataset) : dataset_(std::move(dataset)), size_(dataset_->size()) {}
  std::optional<Sample> produce() override { return at_ < size_ ? std::optional(dataset_->get(at_++)) : std::nullopt; }
  bool skip() override { return at_ < size_ ? (++at_, true) : false; }
  void rewind() override { at_ = 0; }
  Json position() const override { return at_; }
  void seek(const Json& position) override { at_ = std::clamp<std::int64_t>(position.get<std::int64_t>(), 0, size_); }
  void set_epoch(std::int64_t epoch) override {
    dataset_->set_epoch(epoch);
    Stream::set_epoch(epoch);
  }
  std::optional<std::int64_t> length() const override { return size_; }
  std::string name() const override { return dataset_->name(); }
  std::string fingerprint() const override { return dataset_->fingerprint(); }
  std::vector<std::string> class_names() const override { return dataset_->class_names(); }

 private:
  DatasetPtr dataset_;
  std::int64_t size_, at_ = 0;
};

// A user's iterable dataset, with its own state where it has one, else read again up to the place.
class IterableStream : public Stream {
 public:
  explicit IterableStream(DatasetPtr dataset) : dataset_(std::move(dataset)) {}
  std::optional<Sample> produce() override {
    std::optional<Sample> sample = dataset_->next();
    if (sample) ++at_;
    return sample;
  }
  void rewind() override {
    dataset_->set_epoch(epoch());
    at_ = 0;
  }
  Json position() const override { return Json{{"at", at_}, {"state", dataset_->state_dict()}}; }
  void seek(const Json& position) override {
    rewind();
    const auto target = position.at("at").get<std::int64_t>();
    if (const Json& state = position.at("state"); !state.empty()) {
      dataset_->load_state_dict(state);
      at_ = target;
    }
    while (at_ < target && produce()) {
    }
  }
  std::optional<std::int64_t> length() const override { return dataset_->length(); }
  std::string name() const override { return dataset_->name(); }
  std::string fingerprint() const override { return dataset_->fingerprint(); }
  std::vector<std::string> class_names() const override { return dataset_->class_names(); }

 private:
  DatasetPtr dataset_;
  std::int64_t at_ = 0;
};

// What streams over one other stream share.
class StreamView : public Stream {
 public:
  explicit StreamView(StreamPtr inner) : inner_(std::move(inner)) {}
  void set_epoch(std::int64_t epoch) override {
    inner_->set_epoch(epoch);
    Stream::set_epoch(epoch);
  }
  std::optional<std::int64_t> length() const override { return inner_->length(); }
  std::string name() const override { return inner_->name(); }
  std::string fingerprint() const override {
    const std::string parts = inner_->fingerprint() + "|" + description();
    return hash_bytes(parts.data(), parts.size());
  }
  std::vector<std::string> class_names() const override { return inner_->class_names(); }

 protected:
  virtual std::string description() const = 0;
  StreamPtr inner_;
};

class ShuffleStream : public StreamView {
 public:
  ShuffleStream(StreamPtr inner, ShuffleBufferOptions options) : StreamView(std::move(inner)), options_(options) {
    if (options_.buffer_size < 1)
      throw UserError(inner_->name(), cat("shuffle_buffer_size: expected at least 1, got ", options_.buffer_size));
    run_start_ = inner_->position();
  }
  std::optional<Sample> produce() override {
    if (at_ == buffer_.size() && !fill()) return std::nullopt;
    return std::move(buffer_[order_[at_++]]);
  }
  void rewind() override {
    inner_->rewind();
    restart(inner_->position(), 0);
  }
  Json position() const override { return Json{{"run", run_}, {"start", run_start_}, {"at", at_}}; }
  void seek(const Json& position) override {
    inner_->seek(position.at("start"));
    restart(position.at("start"), position.at("run").get<std::int64_t>());
    const auto at = position.at("at").get<std::size_t>();
    if (at == 0) return;
    if (!fill(Advance::kNo) || at > buffer_.size())
      throw UserError(name(), "state: the data has fewer samples than when it was saved");
    at_ = at;
  }

 protected:
  std::string description() const override { return cat("shuffle ", options_.buffer_size, " ", options_.seed); }

 private:
  enum class Advance { kNo, kYes };

  void restart(Json start, std::int64_t run) {
    run_start_ = std::move(start);
    run_ = run;
    buffer_.clear();
    at_ = 0;
  }
  // The next run of samples and its order.
  bool fill(Advance advance = Advance::kYes) {
    if (advance == Advance::kYes && !buffer_.empty()) {
      run_start_ = inner_->position();
      ++run_;
    }
    buffer_.clear();
    at_ = 0;
    while (static_cast<std::int64_t>(buffer_.size()) < options_.buffer_size) {
      std::optional<Sample> sample = inner_->produce();
      if (!sample) break;
      buffer_.push_back(std::move(*sample));
    }
    // Runs get seeds of their own, far apart whatever the seed and epoch.
    SampleRng key(options_.seed, epoch(), run_);
    order_ = NumpyGenerator(key.next_uint64()).permutation(static_cast<std::int64_t>(buffer_.size()));
    return !buffer_.empty();
  }

  ShuffleBufferOptions options_;
  std::vector<Sample> buffer_;
  std::vector<std::int64_t> order_;
  std::size_t at_ = 0;
  std::int64_t run_ = 0;
  Json run_start_;
};

class RepeatStream : public StreamView {
 public:
  RepeatStream(StreamPtr inner, std::int64_t count) : StreamView(std::move(inner)), count_(count) {}
  std::optional<Sample> produce() override {
    if (at_ >= count_) return std::nullopt;
    std::optional<Sample> sample = inner_->produce();
    if (!sample) {
      if (at_ == 0) throw UserError(name(), cat("expected samples to draw ", count_, " from, got an empty dataset"));
      inner_->rewind();
      sample = inner_->produce();
    }
    if (sample) ++at_;
    return sample;
  }
  void rewind() override {
    inner_->rewind();
    at_ = 0;
  }
  Json position() const override { return Json{{"at", at_}, {"inner", inner_->position()}}; }
  void seek(const Json& position) override {
    inner_->seek(position.at("inner"));
    at_ = position.at("at").get<std::int64_t>();
  }
  std::optional<std::int64_t> length() const override { return count_; }

 protected:
  std::string description() const override { return cat("repeat ", count_); }

 private:
  std::int64_t count_, at_ = 0;
};

class SliceStream : public StreamView {
 public:
  SliceStream(StreamPtr inner, IndexRange range) : StreamView(std::move(inner)), range_(range) {}
  std::optional<Sample> produce() override {
    if (!reach_begin() || at_ >= range_.end) return std::nullopt;
    std::optional<Sample> sample = inner_->produce();
    if (sample) ++at_;
    return sample;
  }
  bool skip() override {
    if (!reach_begin() || at_ >= range_.end || !inner_->skip()) return false;
    ++at_;
    return true;
  }
  void rewind() override {
    inner_->rewind();
    at_ = 0;
  }
  Json position() const override { return Json{{"at", at_}, {"inner", inner_->position()}}; }
  void seek(const Json& position) override {
    inner_->seek(position.at("inner"));
    at_ = position.at("at").get<std::int64_t>();
  }
  std::optional<std::int64_t> length() const override {
    const auto whole = inner_->length();
    if (!whole) return std::nullopt;
    return std::max<std::int64_t>(std::min(range_.end, *whole) - std::min(range_.begin, *whole), 0);
  }

 protected:
  std::string description() const override { return cat("slice ", range_.begin, " ", range_.end); }

 private:
  bool reach_begin() {
    for (; at_ < range_.begin; ++at_) {
      if (!inner_->skip()) return false;
    }
    return true;
  }
  IndexRange range_;
  std::int64_t at_ = 0;
};

// What streams over several others share.
class JoinedStream : public Stream {
 public:
  explicit JoinedStream(std::vector<StreamPtr> parts) : parts_(std::move(parts)) {
    if (parts_.empty()) throw UserError("dataset", "expected at least one dataset to join, got none");
  }
  void set_epoch(std::int64_t epoch) override {
    for (const StreamPtr& part : parts_) part->set_epoch(epoch);
    Stream::set_epoch(epoch);
  }
  std::string name() const override {
    std::vector<std::string> names;
    for (const StreamPtr& part : parts_) names.push_back(part->name());
    return join(names, "+");
  }
  std::string fingerprint() const override {
    std::string all;
    for (const StreamPtr& part : parts_) all += part->fingerprint() + ";";
    return hash_bytes(all.data(), all.size());
  }
  std::vector<std::string> class_names() const override { return parts_.front()->class_names(); }

 protected:
  std::vector<StreamPtr> parts_;
};

class ConcatStream : public JoinedStream {
 public:
  using JoinedStream::JoinedStream;
  std::optional<Sample> produce() override {
    for (; at_ < parts_.size(); ++at_) {
      if (auto sample = parts_[at_]->produce()) return sample;
    }
    return std::nullopt;
  }
  bool skip() override {
    for (; at_ < parts_.size(); ++at_) {
      if (parts_[at_]->skip()) return true;
    }
    return false;
  }
  void rewind() override {
    for (const StreamPtr& part : parts_) part->rewind();
    at_ = 0;
  }
  Json position() const override {
    return Json{{"part", at_}, {"inner", at_ < parts_.size() ? parts_[at_]->position() : Json()}};
  }
  void seek(const Json& position) override {
    rewind();
    at_ = std::min(position.at("part").get<std::size_t>(), parts_.size());
    if (at_ < parts_.size()) parts_[at_]->seek(position.at("inner"));
  }
  std::optional<std::int64_t> length() const override {
    std::int64_t total = 0;
    for (const StreamPtr& part : parts_) {
      const auto known = part->length();
      if (!known) return std::nullopt;
      total += *known;
    }
    return total;
  }

 private:
  std::size_t at_ = 0;
};

class InterleaveStream : public JoinedStream {
 public:
  InterleaveStream(std::vector<StreamPtr> parts, InterleaveOptions options)
      : JoinedStream(std::move(parts)),
        options_(std::move(options)),
        cumulative_(cumulative_probabilities(options_.probabilities)),
        rng_(options_.seed) {
    restart();
  }
  std::optional<Sample> produce() override {
    if (is_done()) return std::nullopt;
    const std::size_t source = rng_.choice(cumulative_);
    ++draws_;
    Source& from = sources_[source];
    Stream& part = *parts_[source];
    std::optional<Sample> sample = from.ahead ? std::exchange(from.ahead, std::nullopt) : part.produce();
    if (!sample) throw UserError(part.name(), cat("dataset ", source, " of the mixture is empty"));
    // One sample is read ahead: whether a stream ends with this sample decides if the mixture goes on.
    from.position = part.position();
    from.ahead = part.produce();
    if (!from.ahead) {
      from.exhausted = true;
      part.rewind();
      from.position = part.position();
    }
    return sample;
  }
  void rewind() override {
    for (const StreamPtr& part : parts_) part->rewind();
    restart();
  }
  Json position() const override {
    Json sources = Json::array();
    for (const Source& source : sources_)
      sources.push_back(Json{{"position", source.position}, {"exhausted", source.exhausted}});
    return Json{{"draws", draws_}, {"sources", std::move(sources)}};
  }
  void seek(const Json& position) override {
    restart();
    const Json& sources = position.at("sources");
    if (sources.size() != parts_.size())
      throw UserError(name(), cat("state: expected ", parts_.size(), " datasets, got ", sources.size()));
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      sources_[i].position = sources[i].at("position");
      sources_[i].exhausted = sources[i].at("exhausted").get<bool>();
      parts_[i]->seek(sources_[i].position);
    }
    draws_ = position.at("draws").get<std::uint64_t>();
    rng_.advance(draws_);
  }

 private:
  struct Source {
    Json position;  // of the sample to be read next, `ahead` not counted
    std::optional<Sample> ahead;
    bool exhausted = false;
  };

  void restart() {
    rng_ = NumpyGenerator(options_.seed);
    draws_ = 0;
    sources_.assign(parts_.size(), {});
    for (std::size_t i = 0; i < parts_.size(); ++i) sources_[i].position = parts_[i]->position();
  }
  bool is_done() const {
    bool any = false, all = true;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      if (options_.probabilities[i] == 0) continue;
      any = any || sources_[i].exhausted;
      all = all && sources_[i].exhausted;
    }
    return options_.strategy == MixtureStrategy::kAllExhausted ? all : any;
  }

  InterleaveOptions options_;
  std::vector<double> cumulative_;
  NumpyGenerator rng_;
  std::uint64_t draws_ = 0;
  std::vector<Source> sources_;
};

}  // namespace

StreamPtr as_stream(DatasetPtr dataset) {
  if (auto stream = std::dynamic_pointer_cast<Stream>(dataset)) return stream;
  if (dataset->is_map_style()) return std::make_shared<MapStream>(std::move(dataset));
  return std::make_shared<IterableStream>(std::move(dataset));
}

StreamPtr shuffle_stream(StreamPtr stream, ShuffleBufferOptions options) {
  return std::make_shared<ShuffleStream>(std::move(stream), options);
}

StreamPtr repeat_stream(StreamPtr stream, std::int64_t count) {
  return std::make_shared<RepeatStream>(std::move(stream), count);
}

StreamPtr slice_stream(StreamPtr stream, IndexRange range) { return std::make_shared<SliceStream>(std::move(stream), range); }

StreamPtr concat_streams(std::vector<StreamPtr> streams) { return std::make_shared<ConcatStream>(std::move(streams)); }

StreamPtr interleave_streams(std::vector<StreamPtr> streams, InterleaveOptions options) {
  if (options.probabilities.size() != streams.size()) {
    throw InternalError(cat("interleave: ", streams.size(), " streams, ", options.probabilities.size(), " probabilities"));
  }
  check_probabilities(options.probabilities, options.strategy, "mixture_proportion");
  return std::make_shared<InterleaveStream>(std::move(streams), std::move(options));
}

}  // namespace oumi
