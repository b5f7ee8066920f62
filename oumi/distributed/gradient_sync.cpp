#include "oumi/distributed/gradient_sync.h"

#include <algorithm>
#include <exception>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/c10d.h"

#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

namespace oumi {
namespace {

using Buckets = std::vector<std::vector<std::size_t>>;
using Names = std::unordered_map<std::size_t, std::string>;

// c10d's constructor gets longer from version to version.
template <class Reducer>
std::unique_ptr<Reducer> make_reducer(const std::vector<Tensor>& parameters, const Buckets& buckets,
                                      const c10::intrusive_ptr<c10d::ProcessGroup>& group, const GradientSyncOptions& options,
                                      const Names& names) {
  const std::vector<bool> sparse(parameters.size(), false);
  const std::int64_t cap = options.bucket_bytes, first = c10d::kDefaultFirstBucketBytes;
  if constexpr (std::is_constructible_v<Reducer, std::vector<Tensor>, Buckets, c10::intrusive_ptr<c10d::ProcessGroup>,
                                        std::vector<bool>, std::int64_t, bool, bool, Names, std::int64_t, bool, bool,
                                        std::vector<std::int64_t>>) {
    return std::make_unique<Reducer>(parameters, buckets, group, sparse, cap, options.find_unused_parameters,
                                     /*gradient_as_bucket_view=*/false, names, first, false, false,
                                     std::vector<std::int64_t>());
  } else {
    return std::make_unique<Reducer>(parameters, buckets, group, sparse, cap, options.find_unused_parameters,
                                     /*gradient_as_bucket_view=*/false, names, first, false, false);
  }
}

}  // namespace

struct GradientSync::State {
  std::shared_ptr<ProcessGroup> group;
  GradientSyncOptions options;
  std::unique_ptr<c10d::Reducer> reducer;
  bool averages = false;  // the next backward's gradients
};

GradientSync::GradientSync(std::shared_ptr<ProcessGroup> group, const std::vector<std::pair<std::string, Tensor>>& parameters,
                           const GradientSyncOptions& options)
    : state_(std::make_unique<State>()) {
  state_->group = std::move(group);
  state_->options = options;
  std::string description;
  std::vector<Tensor> tensors;
  Names names;
  for (const auto& [name, tensor] : parameters) {
    names[tensors.size()] = name;
    tensors.push_back(tensor);
    description += cat(name, " ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(), "\n");
  }
  require_same_on_all_ranks(*state_->group, description, "the model's parameters");
  if (state_->group->c10d() == nullptr) return;
  state_->group->guard("setting up gradient averaging", [&] {
    auto process_group = c10::intrusive_ptr<c10d::ProcessGroup>::reclaim_copy(state_->group->c10d());
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
        tensors, {static_cast<std::size_t>(c10d::kDefaultFirstBucketBytes), static_cast<std::size_t>(options.bucket_bytes)});
    // Backward makes the last parameters' gradients first.
    std::reverse(buckets.begin(), buckets.end());
    state_->reducer = make_reducer<c10d::Reducer>(tensors, buckets, process_group, options, names);
  });
}

GradientSync::~GradientSync() = default;

void GradientSync::before_backward(const Tensor& loss) {
  if (!state_->reducer) return;
  state_->averages = true;
  state_->group->guard("averaging gradients", [&] {
    state_->reducer->prepare_for_backward(state_->options.find_unused_parameters ? std::vector<Tensor>{loss}
                                                                                 : std::vector<Tensor>{});
  });
}

void GradientSync::backward(const Tensor& loss) {
  if (!std::exchange(state_->averages, false)) return loss.backward();
  // What is no error of the communication passes the guard by.
  std::exception_ptr own;
  state_->group->guard("averaging gradients", [&] {
    try {
      loss.backward();
    } catch (const c10::DistError&) {
      throw;
    } catch (const std::runtime_error&) {
      throw;  // Gloo's
    } catch (const c10::Error& error) {
      // The Reducer's complaints are about the model; anything else is the backward's own.
      const std::string text = error.what_without_backtrace();
      if (text.find("Expected to have finished reduction") != std::string::npos ||
          text.find("ready twice") != std::string::npos) {
        throw UserError("training.ddp_find_unused_parameters",
                        "parameters got no gradient in this step, or got it twice: " + text.substr(0, text.find(". ")),
                        "set it to true when a forward does not use every parameter, or freeze those that are never used");
      }
      own = std::current_exception();
    } catch (...) {
      own = std::current_exception();
    }
  });
  if (own) std::rethrow_exception(own);
}

void broadcast_from_main(ProcessGroup& group, const std::vector<Tensor>& tensors, const char* what) {
  if (group.c10d() == nullptr || tensors.empty()) return;
  constexpr std::size_t kBytesAtOnce = 250 * 1024 * 1024;  // DistributedDataParallel's
  std::vector<Tensor> filled;
  for (const Tensor& tensor : tensors) {
    if (tensor.defined() && tensor.numel() > 0) filled.push_back(tensor.detach());
  }
  group.guard(what, [&] {
    c10d::broadcast_coalesced(c10::intrusive_ptr<c10d::ProcessGroup>::reclaim_copy(group.c10d()), filled, kBytesAtOnce, 0);
  });
}

void require_same_on_all_ranks(ProcessGroup& group, const std::string& text, const char* what) {
  const std::string wanted = group.broadcast_text(text, what);
  const bool differs = wanted != text;
  if (group.max({differs ? 1 : 0}, what).front() == 0) return;
  if (!differs)
    throw UserError(what, "expected the same on all ranks, got another on at least one",
                    "start every rank with the same config, files and version");
  // The first line that is not the same says what.
  const std::vector<std::string> own = split(text, '\n'), main = split(wanted, '\n');
  std::size_t line = 0;
  while (line < own.size() && line < main.size() && own[line] == main[line]) ++line;
  const auto at = [&](const std::vector<std::string>& lines) {
    return line < lines.size() && !lines[line].empty() ? lines[line] : std::string("nothing");
  };
  throw UserError(what, cat("expected the same on all ranks: rank 0 has ", at(main), ", rank ", group.rank(), " has ", at(own)),
                  "start every rank with the same config, files and version");
}

}  // namespace oumi
