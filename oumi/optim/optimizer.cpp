#include "oumi/optim/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "oumi/base/kwargs.h"
#include "oumi/base/registry.h"
#include "oumi/optim/eight_bit_adamw.h"
#include "oumi/optim/fused_optimizers.h"
#include "oumi/optim/loop_optimizers.h"

namespace oumi {
namespace {

using Groups = std::vector<ParameterGroup>;
using OptimizerPtr = std::unique_ptr<torch::optim::Optimizer>;

const char* const kArgs = "training.optim_args";

// Names that Hugging Face or Oumi takes and that have no counterpart here.
constexpr std::array kUnsupported = {
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_anyprecision",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "ademamix",
    "ademamix_8bit",
    "lion_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_8bit",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
    "lomo",
    "adalomo",
    "grokadamw",
    "schedule_free_radam",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "apollo_adamw",
    "apollo_adamw_layerwise",
    "stable_adamw",
};

// "1e-3" -> 0.001, "True" -> true, "none" -> null, anything else stays text. A value is a JSON scalar or a Python one.
Json parse_value(const std::string& text) {
  const std::string lower = to_lower(text);
  if (lower == "true" || lower == "yes") return true;
  if (lower == "false" || lower == "no") return false;
  if (lower == "none" || lower == "null") return nullptr;
  std::size_t used = 0;
  try {
    const double value = std::stod(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {
    // Not a number, or none that a double holds: reported with the type that was wanted.
  }
  return text;
}

Kwargs parse_args(const std::string& text) {
  Json values = Json::object();
  for (const std::string& part : split(text, ',')) {
    const std::string entry = trim(part);
    if (entry.empty() && trim(text).empty()) continue;
    const std::size_t equals = entry.find('=');
    const std::string key = equals == std::string::npos ? "" : trim(entry.substr(0, equals));
    const std::string value = equals == std::string::npos ? "" : trim(entry.substr(equals + 1));
    if (key.empty() || value.empty()) throw UserError(kArgs, cat("expected key=value,key=value, got '", text, "'"));
    if (key == "weight_decay") {
      throw UserError(cat(kArgs, ".weight_decay"), "expected no such key: the parameter groups' weight decay is what counts",
                      "set training.weight_decay");
    }
    if (values.contains(key)) throw UserError(cat(kArgs, ".", key), "expected a key once, got it twice");
    values[key] = parse_value(value);
  }
  return Kwargs(std::move(values), kArgs);
}

double checked(const Kwargs& args, const std::string& name, double fallback, double least, double below) {
  const double value = args.get<double>(name, fallback);
  if (value >= least && value < below) return value;
  throw UserError(cat(kArgs, ".", name),
                  cat("expected a value from ", least, std::isinf(below) ? "" : cat(" to below ", below), ", got ", value));
}

double not_negative(const Kwargs& args, const std::string& name, double fallback) {
  return checked(args, name, fallback, 0.0, INFINITY);
}

// True, False, and Hugging Face's 1 for true.
bool flag(const Kwargs& args, const std::string& name, bool fallback) {
  const Json* value = args.find(name);
  if (value != nullptr && value->is_number() && (*value == 0.0 || *value == 1.0)) return *value == 1.0;
  return args.get<bool>(name, fallback);
}

double beta(const Kwargs& args, const std::string& name, double fallback) { return checked(args, name, fallback, 0.0, 1.0); }

struct AdamKind {
  bool decoupled, fused;
};

OptimizerPtr make_adam(const OptimizerOptions& options, const Groups& groups, AdamKind kind) {
  const Kwargs args = parse_args(options.optim_args);
  const AdamSettings settings{.beta1 = beta(args, "beta1", options.adam_beta1),
                              .beta2 = beta(args, "beta2", options.adam_beta2),
                              .eps = not_negative(args, "eps", options.adam_epsilon),
                              .amsgrad = flag(args, "amsgrad", false),
                              .decoupled_weight_decay = kind.decoupled,
                              .fused = kind.fused};
  args.check_all_read();
  return std::make_unique<Adam>(groups, options.learning_rate, settings);
}

OptimizerPtr make_adamw_8bit(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  const EightBitAdamSettings settings{.beta1 = beta(args, "beta1", options.adam_beta1),
                                      .beta2 = beta(args, "beta2", options.adam_beta2),
                                      .eps = not_negative(args, "eps", options.adam_epsilon)};
  args.check_all_read();
  return std::make_unique<EightBitAdamW>(groups, options.learning_rate, settings, options.full_precision_states);
}

OptimizerPtr make_sgd(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  const SgdSettings settings{.momentum = not_negative(args, "momentum", options.sgd_momentum),
                             .dampening = not_negative(args, "dampening", 0.0),
                             .nesterov = flag(args, "nesterov", false)};
  args.check_all_read();
  if (settings.nesterov && (settings.momentum <= 0 || settings.dampening != 0)) {
    throw UserError(cat(kArgs, ".nesterov"), cat("expected a momentum and no dampening with it, got momentum ",
                                                 settings.momentum, " and dampening ", settings.dampening));
  }
  return std::make_unique<Sgd>(groups, options.learning_rate, settings);
}

OptimizerPtr make_adagrad(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  const AdagradSettings settings{.lr_decay = not_negative(args, "lr_decay", 0.0),
                                 .eps = not_negative(args, "eps", 1e-10),
                                 .initial_accumulator_value = not_negative(args, "initial_accumulator_value", 0.0)};
  args.check_all_read();
  return std::make_unique<Adagrad>(groups, options.learning_rate, settings);
}

OptimizerPtr make_rmsprop(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  const RmspropSettings settings{.alpha = not_negative(args, "alpha", 0.99),
                                 .eps = not_negative(args, "eps", 1e-8),
                                 .momentum = not_negative(args, "momentum", 0.0),
                                 .centered = flag(args, "centered", false)};
  args.check_all_read();
  return std::make_unique<Rmsprop>(groups, options.learning_rate, settings);
}

OptimizerPtr make_adafactor(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  AdafactorSettings settings;
  settings.eps1 = not_negative(args, "eps1", settings.eps1);
  settings.eps2 = not_negative(args, "eps2", settings.eps2);
  settings.clip_threshold = not_negative(args, "clip_threshold", settings.clip_threshold);
  settings.decay_rate = args.get<double>("decay_rate", settings.decay_rate);
  if (const Json* value = args.find("beta1"); value != nullptr && !value->is_null()) settings.beta1 = beta(args, "beta1", 0.0);
  settings.scale_parameter = flag(args, "scale_parameter", settings.scale_parameter);
  settings.relative_step = flag(args, "relative_step", settings.relative_step);
  settings.warmup_init = flag(args, "warmup_init", settings.warmup_init);
  args.check_all_read();
  if (settings.warmup_init && !settings.relative_step) {
    throw UserError(cat(kArgs, ".warmup_init"), "expected relative_step=True with it, got relative_step=False");
  }
  if (settings.clip_threshold == 0) throw UserError(cat(kArgs, ".clip_threshold"), "expected a positive value, got 0");
  return std::make_unique<Adafactor>(groups, options.learning_rate, settings);
}

OptimizerPtr make_lion(const OptimizerOptions& options, const Groups& groups) {
  const Kwargs args = parse_args(options.optim_args);
  const LionSettings settings{.beta1 = beta(args, "beta1", options.adam_beta1),
                              .beta2 = beta(args, "beta2", options.adam_beta2)};
  args.check_all_read();
  return std::make_unique<Lion>(groups, options.learning_rate, settings);
}

Registry<OptimizerFactory>& registry() {
  static Registry<OptimizerFactory>* const table = [] {
    auto* filled = new Registry<OptimizerFactory>("optimizer");
    filled->add("adamw_torch", [](const auto& options, const auto& groups) {
      return make_adam(options, groups, {.decoupled = true, .fused = false});
    });
    const OptimizerFactory adamw = [](const auto& options, const auto& groups) {
      return make_adam(options, groups, {.decoupled = true, .fused = true});
    };
    for (const char* name : {"adamw_torch_fused", "adamw", "paged_adamw", "paged_adamw_32bit"}) {
      filled->add(name, adamw);
    }
    filled->add("adam", [](const auto& options, const auto& groups) {
      return make_adam(options, groups, {.decoupled = false, .fused = true});
    });
    for (const char* name : {"adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"}) filled->add(name, make_adamw_8bit);
    filled->add("sgd", make_sgd);
    filled->add("adagrad", make_adagrad);
    filled->add("rmsprop", make_rmsprop);
    filled->add("adafactor", make_adafactor);
    for (const char* name : {"lion", "lion_32bit", "paged_lion_32bit"}) filled->add(name, make_lion);
    return filled;
  }();
  return *table;
}

void check_options(const OptimizerOptions& options) {
  const auto check = [](const char* key, double value, double below) {
    if (!(value >= 0 && value < below)) {
      throw UserError(cat("training.", key),
                      cat("expected a value from 0", std::isinf(below) ? "" : cat(" to below ", below), ", got ", value));
    }
  };
  check("learning_rate", options.learning_rate, INFINITY);
  check("adam_beta1", options.adam_beta1, 1.0);
  check("adam_beta2", options.adam_beta2, 1.0);
  check("adam_epsilon", options.adam_epsilon, INFINITY);
  check("sgd_momentum", options.sgd_momentum, INFINITY);
}

}  // namespace

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerOptions& options,
                                                        const std::vector<ParameterGroup>& groups) {
  check_options(options);
  const OptimizerFactory* factory = registry().find(options.name);
  if (factory == nullptr) {
    const std::string lower = to_lower(options.name);
    const bool known = std::any_of(kUnsupported.begin(), kUnsupported.end(), [&](const char* name) { return lower == name; });
    if (known) {
      throw UserError("training.optimizer", cat("optimizer '", options.name, "' is not supported"),
                      cat("supported: ", join(optimizer_names(), ", ")));
    }
    const std::string near = nearest_match(options.name, optimizer_names());
    throw UserError("training.optimizer", cat("unknown optimizer '", options.name, "'"),
                    cat(near.empty() ? "" : cat("did you mean '", near, "'? "), "known: ", join(optimizer_names(), ", ")));
  }
  return (*factory)(options, groups);
}

void register_optimizer(const std::string& name, OptimizerFactory factory) { registry().add(name, std::move(factory)); }

std::vector<std::string> optimizer_names() { return registry().names(); }

}  // namespace oumi
