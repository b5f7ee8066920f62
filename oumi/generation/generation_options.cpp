#include "oumi/generation/generation_options.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kFile = "generation_config.json";

[[noreturn]] void wrong(const std::string& key, const std::string& expected, const Json& got) {
  throw UserError(kFile, "key '" + key + "': expected " + expected + ", got " + json_type_name(got) + " " + got.dump(),
                  "correct the file, or set generation." + key);
}

// The value of `key` in Hugging Face's file; nullopt when it is absent or null.
template <class T>
std::optional<T> saved(const Json& file, const char* key) {
  if (!file.is_object()) return std::nullopt;
  const auto found = file.find(key);
  if (found == file.end() || found->is_null()) return std::nullopt;
  if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) wrong(key, "bool", *found);
  } else if constexpr (std::is_integral_v<T>) {
    if (!found->is_number_integer()) wrong(key, "int", *found);
  } else {
    if (!found->is_number() || !std::isfinite(found->get<double>())) wrong(key, "float", *found);
  }
  return found->get<T>();
}

void add_eos(std::set<std::int32_t>& ids, const Json& value) {
  if (value.is_null()) return;
  if (value.is_array()) {
    for (const Json& item : value) add_eos(ids, item);
  } else if (value.is_number_integer() && value.get<std::int64_t>() >= 0 &&
             value.get<std::int64_t>() < (std::int64_t{1} << 31)) {
    ids.insert(value.get<std::int32_t>());
  } else {
    wrong("eos_token_id", "a token id or a list of them", value);
  }
}

Json eos_of(const Json& file) {
  return file.is_object() && file.contains("eos_token_id") ? file["eos_token_id"] : Json(nullptr);
}

}  // namespace

GenerationOptions generation_options(const GenerationParams& params, const Json& generation_config, const Json& model_config,
                                     std::int32_t eos) {
  // Before Transformers 4.25 these settings were part of config.json.
  const Json& file = generation_config.is_object() ? generation_config : model_config;
  GenerationOptions options;
  SamplingOptions& s = options.sampling;
  s.do_sample = saved<bool>(file, "do_sample").value_or(false);
  if (params.use_sampling)
    s.do_sample = *params.use_sampling;
  else if (params.temperature)
    s.do_sample = *params.temperature > 0;
  // A model's files may say 0 for "greedy".
  const double file_temperature = saved<double>(file, "temperature").value_or(1.0);
  s.temperature = params.temperature.value_or(file_temperature > 0 ? file_temperature : 1.0);
  if (!params.temperature && !params.use_sampling && file_temperature <= 0) s.do_sample = false;
  s.top_k = params.top_k.value_or(std::max<std::int64_t>(0, saved<std::int64_t>(file, "top_k").value_or(s.top_k)));
  s.top_p = params.top_p.value_or(saved<double>(file, "top_p").value_or(s.top_p));
  s.min_p = params.min_p.value_or(saved<double>(file, "min_p").value_or(s.min_p));
  s.repetition_penalty =
      params.repetition_penalty.value_or(saved<double>(file, "repetition_penalty").value_or(s.repetition_penalty));
  if (!(s.repetition_penalty > 0)) wrong("repetition_penalty", "a number above 0", s.repetition_penalty);
  s.frequency_penalty = params.frequency_penalty;
  s.presence_penalty = params.presence_penalty;
  for (const auto& [token, bias] : params.logit_bias.items()) s.logit_bias[std::stoi(token)] = bias.get<double>();
  options.max_new_tokens =
      params.max_new_tokens.value_or(saved<std::int64_t>(file, "max_new_tokens").value_or(options.max_new_tokens));
  if (options.max_new_tokens < 1) wrong("max_new_tokens", "at least 1", options.max_new_tokens);
  options.seed = static_cast<std::uint64_t>(params.seed.value_or(0));
  options.batch_size = params.batch_size;

  std::set<std::int32_t> stops;
  Json ids = eos_of(generation_config);
  if (ids.is_null()) ids = eos_of(model_config);
  add_eos(stops, ids);
  if (eos >= 0) stops.insert(eos);
  for (const std::int64_t id : params.stop_token_ids.value_or(std::vector<std::int64_t>{})) {
    if (id < 0 || id >= (std::int64_t{1} << 31))
      throw UserError("generation.stop_token_ids", cat("expected token ids, got ", id));
    stops.insert(static_cast<std::int32_t>(id));
  }
  options.stop_token_ids.assign(stops.begin(), stops.end());
  return options;
}

}  // namespace oumi
