// Fully sharded data parallelism on the module call path (Zhao et al. 2023, arXiv:2304.11277).
//
// A unit's hook gathers its weights before its forward and, where a gradient is coming back to one of its results, before its
// backward; they are freed after each. The end of a unit's backward is when the gradients of its arguments are ready: an
// identity in the graph, put around the arguments, tells. Then its gradients are summed over ranks, each rank keeping its part.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/distributed/fsdp_unit.h"
#include "oumi/distributed/fsdp_wrap.h"
#include "oumi/distributed/sharding.h"

namespace oumi {
namespace {

class ShardedModel;

constexpr const char* kNaming = "asking for a unit's weights";

struct Unit {
  std::string name;
  Module* module = nullptr;
  bool is_root = false;
  std::vector<std::unique_ptr<FlatParameters>> flats;
  std::size_t order = 0;  // in forward
  bool ordered = false;
  bool in_backward = false;  // gathered for it, gradients not handed over yet
  bool added_up = false;     // the update's gradients over a copy's ranks
};

// Tells when the gradients of a unit's arguments are ready.
struct AtEndOfBackward : torch::CustomClassHolder {
  explicit AtEndOfBackward(std::function<void()> call) : call(std::move(call)) {}
  std::function<void()> call;
};

struct EndOfBackward : torch::autograd::Function<EndOfBackward> {
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const c10::intrusive_ptr<AtEndOfBackward>& at_end, at::TensorList arguments) {
    context->saved_data["at_end"] = at::IValue::make_capsule(at_end);
    torch::autograd::variable_list results;
    for (const Tensor& argument : arguments) results.push_back(argument.view_as(argument));
    return results;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    c10::static_intrusive_pointer_cast<AtEndOfBackward>(context->saved_data.at("at_end").toCapsule())->call();
    gradients.insert(gradients.begin(), Tensor());  // of at_end
    return gradients;
  }
};

class UnitHook final : public CallHook {
 public:
  UnitHook(ShardedModel& model, Unit& unit) : model_(model), unit_(unit) {}
  void before(Module& module, const TensorRefs& arguments) override;
  void after(Module& module, const TensorRefs& results) override;

 private:
  ShardedModel& model_;
  Unit& unit_;
};

class ShardedModel final : public Sharding {
 public:
  ShardedModel(ShardGroups groups, Module& model, const NamedTensors& parameters, const ShardingOptions& options,
               const std::set<std::string>& shared)
      : group_(std::move(groups.shard)), copies_(std::move(groups.copies)), options_(options) {
    for (const auto& [name, parameter] : parameters) {
      shards_.push_back({.name = name,
                         .shape = parameter.sizes().vec(),
                         .trained = parameter.requires_grad(),
                         .dtype = parameter.scalar_type()});
    }
    for (const WrappedUnit& wrapped : find_units(model, parameters, options, shared)) add_unit(wrapped, parameters);
    for (auto& unit : units_) sending_order_.push_back(unit.get());
    // As backward comes to them: from the model's end, and the model itself last.
    std::stable_sort(sending_order_.begin(), sending_order_.end(), [](const Unit* a, const Unit* b) {
      return std::pair(!a->is_root, first_parameter(*a)) > std::pair(!b->is_root, first_parameter(*b));
    });
  }

  ~ShardedModel() override { remove_hooks(); }

  bool bf16_weights() const { return options_.bf16_weights; }

  void before_forward(Unit& unit) {
    for (auto& flat : unit.flats) flat->finish_gather();
    if (!unit.ordered) {
      unit.ordered = true;
      unit.order = forward_order_.size();
      forward_order_.push_back(&unit);
    } else if (options_.forward_prefetch && unit.order + 1 < forward_order_.size()) {
      start(*forward_order_[unit.order + 1]);
    }
  }

  void after_forward(Unit& unit, bool backward_follows) {
    if (unit.in_backward) return;  // recomputed within backward
    const bool keep =
        unit.is_root ? c10::GradMode::is_enabled() : backward_follows && options_.mode == ShardingMode::kShardGradOp;
    if (!keep) free(unit);
  }

  void before_backward(Unit& unit) {
    if (unit.in_backward) return;
    unit.in_backward = true;
    for (auto& flat : unit.flats) flat->finish_gather();
    if (options_.backward_prefetch && unit.ordered && unit.order > 0) start(*forward_order_[unit.order - 1]);
  }

  void end_backward(Unit& unit) {
    if (!unit.in_backward) return;
    unit.in_backward = false;
    // One unit's gradients travel at a time: more of them would add up to the whole model's.
    finish_reducing();
    reducing_ = &unit;
    for (auto& flat : unit.flats) flat->start_reduce(group_->world_size() * copies_->world_size());
    free(unit);
  }

  void backward(const Tensor& loss, bool last) override {
    last_ = last && copies_->world_size() > 1;
    for (auto& unit : units_) unit->added_up = false;
    sent_ = 0;
    before_backward(*units_.back());  // the model itself
    loss.backward();
    // Units without an argument that needs a gradient end here. One that no rank's forward has used has nothing to reduce.
    for (auto& unit : units_) {
      if (unit->in_backward) {
        end_backward(*unit);
      } else {
        free(*unit);
      }
    }
    finish_reducing();
    if (last_) finish_copies();
  }

  double clip_gradients(double max_norm) override {
    const at::NoGradGuard no_grad;
    std::vector<Tensor> gradients;
    std::vector<double> squares{0};
    for_each_flat([&](FlatParameters& flat) {
      if (!flat.trained() || !flat.gradient().defined()) return;
      gradients.push_back(flat.gradient());
      const auto add = [&](const Tensor& gradient) {
        const double norm = at::linalg_vector_norm(gradient, 2, at::OptionalIntArrayRef(), false, at::kDouble).item<double>();
        squares[0] += norm * norm;
      };
      if (counts_all()) return add(flat.gradient());
      for (const auto& member : flat.members()) {
        const ParameterShard& shard = shards_[member.index];
        if (counts(shard.name) && shard.value.defined()) add(gradient_of(flat, member));
      }
    });
    group_->sum(squares, "the gradient norm");
    const double norm = norm_over_parts(std::sqrt(squares[0]));
    const double factor = max_norm / (norm + 1e-6);
    if (max_norm > 0 && !(factor >= 1) && !gradients.empty()) at::_foreach_mul_(gradients, factor);
    for_each_flat([&](FlatParameters& flat) {
      if (!flat.trained()) return;
      for (const auto& member : flat.members()) {
        ParameterShard& shard = shards_[member.index];
        if (!shard.value.defined()) continue;
        shard.value.mutable_grad() = flat.gradient().defined() ? gradient_of(flat, member) : Tensor();
      }
    });
    return norm;
  }

  void after_step() override {}  // the next gather brings the new values

  void zero_grad() override {
    for (auto& unit : units_) unit->in_backward = false;
    reducing_ = nullptr;
    used_.clear();
    for_each_flat([](FlatParameters& flat) {
      flat.drop_gradients();
      flat.free();
    });
    for (ParameterShard& shard : shards_) {
      if (shard.value.defined()) shard.value.mutable_grad().reset();
    }
  }

  void hold_weights_on_main() override {
    for_each_flat([this](FlatParameters& flat) {
      const Tensor whole = flat.gather_masters();
      if (group_->is_main()) flat.point_to(whole);
    });
  }

  void release_weights() override {
    if (group_->is_main()) for_each_flat([](FlatParameters& flat) { flat.point_to_buffer(); });
  }

  Tensor gather_weight(const std::string& name) override {
    std::size_t index = 0;
    Tensor found;
    for_each_flat([&](FlatParameters& flat) {
      for (const auto& member : flat.members()) {
        if (found.defined() || shards_[member.index].name != name) continue;
        if (!gathered_.defined() || gathered_flat_ != index) {
          gathered_.reset();
          group_->broadcast_text(cat(index), kNaming);
          gathered_ = flat.gather_masters();
          gathered_flat_ = index;
        }
        found = gathered_.narrow(0, member.offset, member.size).view(shards_[member.index].shape);
      }
      ++index;
    });
    return found.defined() ? found : Sharding::gather_weight(name);
  }

  void serve_weights() override {
    while (true) {
      const std::string wanted = group_->broadcast_text("", kNaming);
      if (wanted.empty()) return;
      std::size_t index = 0;
      for_each_flat([&](FlatParameters& flat) {
        if (cat(index++) == wanted) flat.gather_masters();
      });
    }
  }

  void end_weights() override {
    gathered_.reset();
    group_->broadcast_text("", kNaming);
  }

  void gather_for_good() override {
    for_each_flat([](FlatParameters& flat) { flat.point_to(flat.gather_masters()); });
    remove_hooks();
    units_.clear();
    forward_order_.clear();
    sending_order_.clear();
  }

 private:
  static std::size_t first_parameter(const Unit& unit) {
    std::size_t first = SIZE_MAX;
    for (const auto& flat : unit.flats) first = std::min(first, flat->members().front().index);
    return first;
  }

  // Of this rank's part of one parameter.
  Tensor gradient_of(FlatParameters& flat, const FlatParameters::Member& member) const {
    const ParameterShard& shard = shards_[member.index];
    return flat.gradient().narrow(0, member.offset + shard.begin - flat.first(), shard.end - shard.begin);
  }

  void finish_reducing() {
    if (reducing_ == nullptr) return;
    for (auto& flat : reducing_->flats) flat->finish_reduce();
    reducing_->added_up = true;
    reducing_ = nullptr;
    if (last_) send_to_copies(/*all=*/false);
  }

  // Once for all micro-batches of an update: while backward goes on, the gradients of each unit that is done travel between the
  // copies, in one order on all of them, whichever units a copy used. `all`: those of the units that backward did not come to,
  // too.
  void send_to_copies(bool all) {
    for (; sent_ < sending_order_.size() && (all || sending_order_[sent_]->added_up); ++sent_) {
      for (auto& flat : sending_order_[sent_]->flats) {
        if (!flat->trained()) continue;
        used_.push_back(flat->gradient().defined() ? 1 : 0);
        flat->start_adding_copies(*copies_);
      }
    }
  }

  void finish_copies() {
    send_to_copies(/*all=*/true);
    for_each_flat([](FlatParameters& flat) { flat.finish_adding_copies(); });
    // What no copy used has no gradient, as in one process.
    const std::vector<std::int64_t> used =
        copies_->max(std::exchange(used_, {}), "averaging gradients over copies of the model");
    std::size_t i = 0;
    for (Unit* unit : sending_order_) {
      for (auto& flat : unit->flats) {
        if (flat->trained() && used[i++] == 0) flat->gradient().reset();
      }
    }
  }

  void add_unit(const WrappedUnit& wrapped, const NamedTensors& parameters) {
    auto unit = std::make_unique<Unit>();
    unit->name = wrapped.name;
    unit->module = wrapped.module;
    unit->is_root = wrapped.name.empty();
    // A buffer has one dtype, and frozen parameters need no gradient buffer.
    std::vector<std::size_t> left = wrapped.parameters;
    while (!left.empty()) {
      const Tensor& first = parameters[left.front()].second;
      const bool trained = first.requires_grad();
      const at::ScalarType dtype = first.scalar_type();
      std::vector<FlatParameters::Member> members;
      std::erase_if(left, [&](std::size_t index) {
        const Tensor& parameter = parameters[index].second;
        if (parameter.requires_grad() != trained || parameter.scalar_type() != dtype) return false;
        members.push_back({.index = index, .parameter = parameter});
        return true;
      });
      auto flat = std::make_unique<FlatParameters>(*group_, pool_, std::move(members), trained,
                                                   options_.bf16_weights ? std::optional(at::kBFloat16) : std::nullopt);
      for (const auto& member : flat->members()) {
        ParameterShard& shard = shards_[member.index];
        const std::int64_t first_element = flat->first() - member.offset;
        shard.begin = std::clamp<std::int64_t>(first_element, 0, member.size);
        shard.end = std::clamp<std::int64_t>(first_element + flat->part(), 0, member.size);
        if (shard.end > shard.begin) {
          shard.value = flat->local().narrow(0, member.offset + shard.begin - flat->first(), shard.end - shard.begin).detach();
        }
      }
      unit->flats.push_back(std::move(flat));
    }
    unit->module->add_call_hook(std::make_shared<UnitHook>(*this, *unit));
    units_.push_back(std::move(unit));
  }

  // Ours alone: noise on embeddings and the like stay.
  void remove_hooks() {
    for (const auto& unit : units_) {
      const auto hooks = unit->module->call_hooks();
      unit->module->clear_call_hooks();
      for (const auto& hook : hooks) {
        if (dynamic_cast<UnitHook*>(hook.get()) == nullptr) unit->module->add_call_hook(hook);
      }
    }
  }

  static void start(Unit& unit) {
    for (auto& flat : unit.flats) flat->start_gather();
  }
  static void free(Unit& unit) {
    for (auto& flat : unit.flats) flat->free();
  }
  template <class Call>
  void for_each_flat(Call&& call) {
    for (auto& unit : units_) {
      for (auto& flat : unit->flats) call(*flat);
    }
  }

  std::shared_ptr<ProcessGroup> group_, copies_;
  ShardingOptions options_;
  BufferPool pool_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<Unit*> forward_order_;
  Unit* reducing_ = nullptr;  // its gradients travel
  bool last_ = false;         // backward is the update's last, and there are other copies
  std::vector<Unit*> sending_order_;
  std::size_t sent_ = 0;            // units whose gradients travel between copies
  std::vector<std::int64_t> used_;  // of their flats: whether this copy has a gradient
  Tensor gathered_;                 // of gather_weight
  std::size_t gathered_flat_ = 0;
};

void UnitHook::before(Module&, const TensorRefs& arguments) {
  model_.before_forward(unit_);
  if (unit_.is_root && model_.bf16_weights()) {
    for (Tensor* argument : arguments) {
      if (argument->defined() && argument->scalar_type() == at::kFloat) *argument = argument->to(at::kBFloat16);
    }
  }
  if (unit_.is_root || unit_.in_backward || !c10::GradMode::is_enabled()) return;
  torch::autograd::variable_list inputs;
  std::vector<Tensor*> places;
  for (Tensor* argument : arguments) {
    if (!argument->defined() || !argument->requires_grad()) continue;
    inputs.push_back(*argument);
    places.push_back(argument);
  }
  if (inputs.empty()) return;
  const auto at_end = c10::make_intrusive<AtEndOfBackward>([&model = model_, &unit = unit_] { model.end_backward(unit); });
  const auto outputs = EndOfBackward::apply(at_end, at::TensorList(inputs));
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = outputs[i];
}

void UnitHook::after(Module&, const TensorRefs& results) {
  bool backward_follows = false;
  if (c10::GradMode::is_enabled() && !unit_.in_backward) {
    for (Tensor* result : results) {
      if (!result->defined() || !result->requires_grad()) continue;
      backward_follows = true;
      result->register_hook([&model = model_, &unit = unit_](const Tensor& gradient) {
        model.before_backward(unit);
        return gradient;
      });
    }
  }
  model_.after_forward(unit_, backward_follows);
}

}  // namespace

std::unique_ptr<Sharding> shard_model(ShardGroups groups, Module& model, const NamedTensors& parameters,
                                      const ShardingOptions& options, const std::set<std::string>& shared) {
  return std::make_unique<ShardedModel>(std::move(groups), model, parameters, options, shared);
}

}  // namespace oumi
