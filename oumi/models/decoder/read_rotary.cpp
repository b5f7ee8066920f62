// rope_parameters, or rope_theta and rope_scaling -> RotaryConfig.
#include <cmath>

#include "oumi/base/strings.h"
#include "oumi/models/decoder/decoder_config.h"

namespace oumi {
namespace {

using nn::RotaryConfig;
using nn::RotaryType;

// The settings of one kind of layer, in the newer spelling.
HfConfig rope_parameters(const HfConfig& config, const RotaryQuery& query) {
  Json values = Json::object();
  std::string key = "rope_parameters";
  const Json *parameters = config.raw("rope_parameters"), *scaling = config.raw("rope_scaling"),
             *theta = config.raw(query.theta_key);
  if (parameters != nullptr) {
    if (!parameters->is_object()) throw UserError(config.key(key), "expected dict, got " + json_type_name(*parameters));
    const bool nested = parameters->contains("full_attention") || parameters->contains("sliding_attention");
    if (nested && query.layer_type.empty())
      throw UserError(config.key(key), "this family has one kind of rotary embedding: expected no parts by layer type");
    if (!nested && !query.layer_type.empty() && !parameters->empty()) {
      throw UserError(config.key(key),
                      "expected parts by layer type (full_attention, sliding_attention), got " + parameters->dump());
    }
    if (nested) {
      key += "." + query.layer_type;
      const auto part = parameters->find(query.layer_type);
      if (part != parameters->end() && part->is_object()) values = *part;
    } else {
      values = *parameters;
    }
  }
  if (scaling != nullptr && query.scaled) {
    key = "rope_scaling";
    if (!scaling->is_object()) throw UserError(config.key(key), "expected dict, got " + json_type_name(*scaling));
    if (query.layer_type.empty()) {
      values = *scaling;
    } else {
      values.update(*scaling);
    }
  }
  if (theta != nullptr && !values.contains("rope_theta")) values["rope_theta"] = *theta;
  return HfConfig(std::move(values), config.key(key));
}

RotaryType parse_type(const std::string& name, const std::string& key) {
  if (name == "default") return RotaryType::kDefault;
  if (name == "linear") return RotaryType::kLinear;
  if (name == "dynamic") return RotaryType::kDynamic;
  if (name == "yarn") return RotaryType::kYarn;
  if (name == "longrope" || name == "su") return RotaryType::kLongRope;
  if (name == "llama3") return RotaryType::kLlama3;
  throw UserError(key, "unknown kind '" + name + "'", "known: default, linear, dynamic, yarn, longrope, llama3");
}

double required(const HfConfig& rope, const char* name) {
  const auto value = rope.find<double>(name);
  if (!value) throw UserError(rope.key(name), "is required for this rope_type and missing");
  return *value;
}

double yarn_attention_factor(const HfConfig& rope, double factor) {
  const auto given = rope.find<double>("attention_factor");
  const double mscale = rope.get<double>("mscale", 0), mscale_all_dim = rope.get<double>("mscale_all_dim", 0);
  const auto scale = [factor](double m) { return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0; };
  if (given) return *given;
  return mscale != 0 && mscale_all_dim != 0 ? scale(mscale) / scale(mscale_all_dim) : scale(1);
}

std::vector<double> long_factors(const HfConfig& rope, const char* name, std::int64_t expected) {
  const auto factors = rope.find<std::vector<double>>(name);
  if (!factors) throw UserError(rope.key(name), "is required for longrope and missing");
  if (static_cast<std::int64_t>(factors->size()) != expected) {
    throw UserError(rope.key(name),
                    cat("expected ", expected, " numbers (half the rotated channels of a head), got ", factors->size()));
  }
  return *factors;
}

}  // namespace

RotaryConfig read_rotary(const HfConfig& config, const DecoderConfig& decoder, const RotaryQuery& query) {
  const HfConfig rope = rope_parameters(config, query);
  RotaryConfig rotary;
  const auto old_name = rope.find<std::string>("type");
  const std::string name = rope.get<std::string>("rope_type", old_name.value_or("default"));
  rotary.type = parse_type(query.yarn_is_longrope && name == "yarn" ? "longrope" : name, rope.key("rope_type"));
  rotary.theta = rope.get<double>("rope_theta", query.default_theta);
  double partial = rope.get<double>("partial_rotary_factor", 1.0);
  if (query.partial)
    partial = rope.values().contains("partial_rotary_factor") ? partial : config.get<double>("partial_rotary_factor", 1.0);
  if (!query.partial && partial != 1.0)
    throw UserError(rope.key("partial_rotary_factor"), cat("this family rotates whole heads: expected 1, got ", partial));
  rotary.dim = static_cast<std::int64_t>(static_cast<double>(decoder.dimensions.head_dim) * partial);
  if (rotary.dim < 2 || rotary.dim % 2 != 0)
    throw UserError(config.key("head_dim"), cat("rotary embedding needs an even number of channels, got ", rotary.dim));
  rotary.max_position_embeddings = decoder.dimensions.max_position_embeddings;

  const bool has_original =
      rotary.type == RotaryType::kYarn || rotary.type == RotaryType::kLongRope || rotary.type == RotaryType::kLlama3;
  if (has_original) {
    // The config's own key wins over the one inside, as in Transformers.
    const auto inside = rope.find<std::int64_t>("original_max_position_embeddings");
    const auto own = config.find<std::int64_t>("original_max_position_embeddings");
    const std::int64_t fallback =
        query.default_original > 0 ? query.default_original : inside.value_or(rotary.max_position_embeddings);
    rotary.original_max_position_embeddings = own.value_or(fallback);
    if (rotary.original_max_position_embeddings < 1)
      throw UserError(rope.key("original_max_position_embeddings"), "expected at least 1");
  }
  const double stretch = has_original ? static_cast<double>(rotary.max_position_embeddings) /
                                            static_cast<double>(rotary.original_max_position_embeddings)
                                      : 1;
  switch (rotary.type) {
    case RotaryType::kDefault: break;
    case RotaryType::kLinear:
    case RotaryType::kDynamic: rotary.factor = required(rope, "factor"); break;
    case RotaryType::kLlama3:
      rotary.factor = required(rope, "factor");
      rotary.low_freq_factor = required(rope, "low_freq_factor");
      rotary.high_freq_factor = required(rope, "high_freq_factor");
      break;
    case RotaryType::kYarn:
      rotary.factor = rope.get<double>("factor", stretch);
      rotary.attention_factor = yarn_attention_factor(rope, rotary.factor);
      rotary.beta_fast = rope.get<double>("beta_fast", 32);
      rotary.beta_slow = rope.get<double>("beta_slow", 1);
      rotary.truncate = rope.get<bool>("truncate", true);
      break;
    case RotaryType::kLongRope: {
      rotary.short_factor = long_factors(rope, "short_factor", rotary.dim / 2);
      rotary.long_factor = long_factors(rope, "long_factor", rotary.dim / 2);
      const double factor = rope.get<double>("factor", stretch);
      const double usual =
          factor <= 1
              ? 1.0
              : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(rotary.original_max_position_embeddings)));
      rotary.attention_factor = rope.get<double>("attention_factor", usual);
      break;
    }
  }
  rope.raw("original_max_position_embeddings");
  config.raw("original_max_position_embeddings");
  rope.check_all_read();
  return rotary;
}

}  // namespace oumi
