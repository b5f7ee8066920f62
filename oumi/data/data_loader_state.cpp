// The loader's state: what is written down, and what a state must agree with.
#include <algorithm>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/data_loader_impl.h"

namespace oumi {
namespace {

constexpr const char* kComponent = "data loader state";

template <class T>
T read(const Json& state, const char* name) {
  const auto found = state.find(name);
  const bool fits = found != state.end() && (std::is_same_v<T, bool> ? found->is_boolean() : found->is_number_integer());
  if (!fits) {
    throw UserError(kComponent,
                    cat(name, ": expected ", std::is_same_v<T, bool> ? "bool" : "int", ", got ",
                        found == state.end() ? std::string("nothing") : found->dump()),
                    "the checkpoint's loader state is damaged or of another program");
  }
  return found->get<T>();
}

std::int64_t read_count(const Json& state, const char* name) {
  const auto value = read<std::int64_t>(state, name);
  constexpr std::int64_t kLargest = std::int64_t{1} << 53;
  if (value < 0 || value > kLargest) {
    throw UserError(kComponent, cat(name, ": expected 0 to ", kLargest, ", got ", value),
                    "the checkpoint's loader state is damaged");
  }
  return value;
}

Json read_dict(const Json& state, const char* name) {
  const auto found = state.find(name);
  if (found == state.end()) return Json::object();
  if (!found->is_object()) throw UserError(kComponent, cat(name, ": expected dict, got ", json_type_name(*found)));
  return *found;
}

template <class T>
void expect_same(const char* what, const T& saved, const T& here, const char* hint) {
  if (saved != here) throw UserError(kComponent, cat(what, ": expected ", saved, " as in the saved state, got ", here), hint);
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

Json DataLoader::Impl::state_dict() const {
  Json state{{"version", 1}, {"epoch", epoch_}, {"position", position_}, {"world_size", options_.world_size}};
  if (reader_) {
    state["kind"] = "iterable";
    state["batch_size"] = options_.batch_size;
    state["stream"] = fetching_ ? reader_state_ : reader_->state_dict();
    return state;
  }
  state["kind"] = "map";
  state["length"] = dataset_->size();
  state["shuffle"] = options_.shuffle;
  state["seed"] = options_.seed;
  state["batch_size"] = or_null(all_batches_->batch_size());
  state["split_batches"] = options_.split_batches;
  state["first_sample"] = skipped_samples_;
  state["finished"] = started_ && position_ >= end_;
  if (!ahead_.empty()) state["ahead"] = ahead_;
  if (Json sampler = batches_->state_dict(); !sampler.empty()) state["sampler"] = std::move(sampler);
  if (Json inner = dataset_->state_dict(); !inner.empty()) state["dataset"] = std::move(inner);
  return state;
}

void DataLoader::Impl::load_state_dict(const Json& state) {
  if (!state.is_object()) throw UserError(kComponent, "expected dict, got " + json_type_name(state));
  expect_same<std::int64_t>("version", read<std::int64_t>(state, "version"), 1,
                            "it was saved by a newer version of this program");
  const std::string kind = state.value("kind", Json("")).dump(), here = reader_ ? "\"iterable\"" : "\"map\"";
  if (kind != here) throw UserError(kComponent, cat("dataset: expected kind ", kind, " as in the saved state, got ", here));
  if (reader_) {
    load_iterable_state(state);
  } else {
    load_map_state(state);
  }
  loaded_ = placed_ = true;
}

void DataLoader::Impl::load_map_state(const Json& state) {
  const std::int64_t epoch = read_count(state, "epoch"), position = read_count(state, "position");
  const std::int64_t first_sample = read_count(state, "first_sample"), world_size = read_count(state, "world_size");
  expect_same("dataset length", read<std::int64_t>(state, "length"), dataset_->size(),
              "the data has changed: go back to the old data, or start a new run");
  expect_same("shuffle", read<bool>(state, "shuffle"), options_.shuffle, "keep the saved run's order of samples");
  if (options_.shuffle) {
    // Not read<int64>: a seed may use all 64 bits.
    const auto seed = state.find("seed");
    if (seed == state.end() || !seed->is_number_integer()) throw UserError(kComponent, "seed: expected int, got nothing");
    expect_same("seed", seed->get<std::uint64_t>(), options_.seed, "keep the saved run's data_seed");
  }
  std::set<std::int64_t> ahead;
  if (const auto list = state.find("ahead"); list != state.end()) {
    try {
      ahead = list->get<std::set<std::int64_t>>();
    } catch (const Json::exception&) {
      throw UserError(kComponent, "ahead: expected a list of int, got " + list->dump());
    }
    const std::int64_t first_missing = position - static_cast<std::int64_t>(ahead.size());
    if (!ahead.empty() && (first_missing < 0 || *ahead.begin() <= first_missing)) {
      throw UserError(kComponent, cat("ahead: expected positions after ", first_missing, ", got ", *ahead.begin()));
    }
  }
  const bool finished = read<bool>(state, "finished"), split = read<bool>(state, "split_batches");
  const auto here = all_batches_->batch_size();
  const auto saved_size = state.find("batch_size");
  std::optional<std::int64_t> saved;
  if (saved_size == state.end() || !saved_size->is_null())
    saved = std::clamp<std::int64_t>(read_count(state, "batch_size"), 1, std::numeric_limits<std::int32_t>::max());
  const bool same_batches = saved == here && world_size == options_.world_size && split == options_.split_batches;

  stop_workers();
  batches_->load_state_dict(read_dict(state, "sampler"));
  if (const Json inner = read_dict(state, "dataset"); !inner.empty()) dataset_->load_state_dict(inner);
  if (same_batches) {
    enter_epoch(epoch, first_sample);
    if (position > end_ || (!ahead.empty() && *ahead.rbegin() >= end_)) {
      started_ = false;
      throw UserError(kComponent, cat("position: expected at most ", end_, ", the batches of an epoch, got ", position),
                      "the batch sampler gives other batches than the saved run's");
    }
    go_to(position, std::move(ahead));
    return;
  }
  if (!saved || !here || !all_batches_->num_samples()) {
    throw UserError(kComponent,
                    "batch sampler: the batch size or world size is not the saved one, and its batches vary in size",
                    "resume with the saved run's batch size and world size");
  }
  if (!ahead.empty()) {
    throw UserError(kComponent,
                    "batch size or world size: expected those of the saved state, got others, which need in_order: true",
                    "resume with the saved run's batch size and world size");
  }
  // A step of all ranks consumes this many samples.
  const auto step = [](std::int64_t batch_size, std::int64_t world, bool is_split) {
    return is_split ? batch_size : batch_size * world;
  };
  const std::int64_t samples = *all_batches_->num_samples();
  const std::int64_t step_saved =
      step(*saved, std::clamp<std::int64_t>(world_size, 1, std::numeric_limits<std::int32_t>::max()), split);
  if (position > samples / step_saved + 1 || first_sample > samples) {
    throw UserError(kComponent, cat("position: expected at most ", samples / step_saved + 1, ", got ", position),
                    "the checkpoint's loader state is damaged");
  }
  const std::int64_t consumed = first_sample + position * step_saved;
  const std::int64_t step_here = step(*here, options_.world_size, options_.split_batches);
  if (finished || consumed >= samples) {
    enter_epoch(epoch, 0);
    go_to(end_, {});
  } else {
    enter_epoch(epoch, consumed % step_here);
    go_to(std::min(consumed / step_here, end_), {});
  }
}

void DataLoader::Impl::load_iterable_state(const Json& state) {
  const std::int64_t epoch = read_count(state, "epoch"), position = read_count(state, "position");
  const std::int64_t batch_size = read_count(state, "batch_size");
  expect_same("world_size", read_count(state, "world_size"), options_.world_size,
              "resume with the saved run's number of ranks");
  const Json stream = read_dict(state, "stream");
  read_count(stream, "batches_read");
  read<bool>(stream, "finished");
  enter_epoch(epoch, 0);
  started_ = false;
  if (read_dict(stream, "dataset").empty()) {
    // The dataset cannot seek, so that batches are read again, and they must be the same.
    expect_same("batch_size", batch_size, options_.batch_size, "resume with the saved run's batch size");
  }
  reader_->load_state_dict(epoch, stream);
  if (batch_size == options_.batch_size) {
    go_to(position, {});
  } else {
    go_to(static_cast<std::int64_t>(static_cast<double>(position) * static_cast<double>(batch_size) /
                                    static_cast<double>(options_.batch_size)),
          {});
  }
  if (stream.at("finished").get<bool>()) end_ = position_;
  started_ = true;
}

}  // namespace oumi
