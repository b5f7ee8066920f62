#include "oumi/config/inference_config.h"

#include <algorithm>
#include <limits>

#include "oumi/base/files.h"
#include "oumi/config/aliases.h"
#include "oumi/config/codec.h"
#include "oumi/config/overrides.h"
#include "oumi/config/rules.h"
#include "oumi/config/yaml_reader.h"

namespace oumi {
namespace {

// The keys that a training config does not have. `engine` and `remote_params` say who computes: here, always this program.
struct InferenceKeys {
  GenerationParams generation;
  std::optional<std::string> input_path, output_path, system_prompt, engine;
  std::optional<Json> remote_params;
};

FieldList fields_of(const InferenceKeys*) {
  using P = InferenceKeys;
  static constexpr Field kFields[] = {
      field<&P::generation>("generation", "", "How text is generated."),
      field<&P::input_path>("input_path", "", "JSONL file with conversations or prompts; unset: a chat on the terminal."),
      field<&P::output_path>("output_path", "", "JSONL file for the answers."),
      field<&P::system_prompt>("system_prompt", "", "Put before conversations that have no system message."),
      field<&P::engine>("engine", "", "Oumi's inference engine: local ones all mean this program."),
      field<&P::remote_params>("remote_params", "", "Of remote engines; must be unset."),
  };
  return kFields;
}

bool is_inference_key(const std::string& key) {
  const FieldList fields = fields_of(static_cast<const InferenceKeys*>(nullptr));
  return std::any_of(fields.begin(), fields.end(), [&](const Field& field) { return key == field.name; });
}

// Takes the entries of inference out of `source`.
Value split_off_inference(Value& source) {
  Value taken;
  taken.kind = Value::Kind::kDict;
  taken.location = source.location;
  const auto rest = std::stable_partition(source.entries.begin(), source.entries.end(),
                                          [](const Entry& entry) { return !is_inference_key(entry.key); });
  taken.entries.assign(std::make_move_iterator(rest), std::make_move_iterator(source.entries.end()));
  source.entries.erase(rest, source.entries.end());
  return taken;
}

template <class T>
T read_tree(const Value& tree) {
  T read;
  read_fields(tree, "", fields_of(static_cast<const T*>(nullptr)), &read);
  return read;
}

template <class T>
void in_range(const std::string& key, const std::optional<T>& value, T low, T high, const char* expected) {
  if (value && !(*value >= low && *value <= high)) throw_rule("generation." + key, expected, shown(*value));
}

void validate_generation(const GenerationParams& g) {
  constexpr std::int64_t kMany = std::int64_t{1} << 31;
  in_range<std::int64_t>("max_new_tokens", g.max_new_tokens, 1, kMany, "at least 1");
  in_range<std::int64_t>("batch_size", std::optional(g.batch_size), 1, 65536, "from 1 to 65536");
  in_range<std::int64_t>("seed", g.seed, 0, std::numeric_limits<std::int64_t>::max(), "at least 0");
  in_range("temperature", g.temperature, 0.0, 1e6, "at least 0 (0: always the likeliest token)");
  in_range<std::int64_t>("top_k", g.top_k, 0, kMany, "at least 0 (0: no limit)");
  if (g.top_p && !(*g.top_p > 0 && *g.top_p <= 1)) throw_rule("generation.top_p", "above 0 and at most 1", shown(*g.top_p));
  in_range("min_p", g.min_p, 0.0, 1.0, "from 0 to 1");
  if (g.repetition_penalty && !(*g.repetition_penalty > 0))
    throw_rule("generation.repetition_penalty", "above 0", shown(*g.repetition_penalty));
  if (g.use_sampling == true && g.temperature == 0.0)
    throw_rule("generation.temperature", "above 0 with generation.use_sampling", "0");
  if (g.num_beams != 1) throw_rule("generation.num_beams", "1: beam search is not built", shown(g.num_beams));
  if (g.guided_decoding && !g.guided_decoding->is_null())
    throw_rule("generation.guided_decoding", "unset: guided decoding is not built", "a value");
  for (const std::string& text : g.stop_strings.value_or(std::vector<std::string>{})) {
    if (text.empty()) throw_rule("generation.stop_strings", "texts that are not empty", "''");
  }
  for (const auto& [token, bias] : g.logit_bias.items()) {
    const bool is_id = !token.empty() && token.find_first_not_of("0123456789") == std::string::npos && token.size() < 10;
    if (!is_id || !bias.is_number())
      throw_rule("generation.logit_bias", "token ids and numbers", "'" + token + "': " + bias.dump());
  }
}

void validate_engine(const InferenceKeys& keys) {
  if (!keys.engine) return;
  const std::vector<std::string> local = {"NATIVE", "VLLM", "LLAMACPP", "SGLANG"};
  std::string upper = *keys.engine;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (std::find(local.begin(), local.end(), upper) == local.end()) {
    throw UserError("engine", "expected a local engine (" + join(local, ", ") + "), got '" + *keys.engine + "'",
                    "remote engines are not built; remove the key");
  }
}

}  // namespace

FieldList fields_of(const GenerationParams*) {
  using P = GenerationParams;
  static constexpr Field kFields[] = {
      field<&P::max_new_tokens>("max_new_tokens", "tokens", "Longest answer."),
      field<&P::batch_size>("batch_size", "", "Conversations that are answered together."),
      field<&P::exclude_prompt_from_response>("exclude_prompt_from_response", "", "Answer without the prompt in front of it."),
      field<&P::seed>("seed", "", "Of the random numbers; unset: 0."),
      field<&P::temperature>("temperature", "", "Above 0: sampling, the flatter the higher. 0: always the likeliest token."),
      field<&P::top_k>("top_k", "tokens", "Sample among the k likeliest; 0: all."),
      field<&P::top_p>("top_p", "", "Sample among the likeliest that together reach this probability."),
      field<&P::min_p>("min_p", "", "Sample among those with at least this share of the likeliest one's probability."),
      field<&P::repetition_penalty>("repetition_penalty", "", "Above 1: tokens that were there already become less likely."),
      field<&P::frequency_penalty>("frequency_penalty", "", "Taken off a token's score for each time it was generated."),
      field<&P::presence_penalty>("presence_penalty", "", "Taken off the score of tokens that were generated."),
      field<&P::stop_strings>("stop_strings", "", "Texts that end the answer; they are not part of it."),
      field<&P::stop_token_ids>("stop_token_ids", "", "Tokens that end the answer, beside the model's own."),
      field<&P::logit_bias>("logit_bias", "", "Added to the scores of tokens, by id."),
      field<&P::use_cache>("use_cache", "", "Keys and values are always kept; false changes nothing but Oumi's speed."),
      field<&P::num_beams>("num_beams", "", "1; beam search is not built."),
      field<&P::use_sampling>("use_sampling", "",
                              "Sample; unset: when temperature is set above 0, else as the model's files say."),
      field<&P::guided_decoding>("guided_decoding", "", "Not built; must be unset."),
      field<&P::skip_special_tokens>("skip_special_tokens", "", "Leave special tokens out of the answer's text."),
  };
  return kFields;
}

InferenceConfig load_inference_config(const std::vector<std::filesystem::path>& files,
                                      const std::vector<std::string>& overrides) {
  const InferenceKeys defaults;
  Value run = value_from_json(to_json(TrainingConfig{}));
  Value keys = value_from_json(write_fields(fields_of(&defaults), &defaults));
  InferenceConfig config;
  const auto merge = [&](Value source) {
    Value inference = split_off_inference(source);
    rewrite_aliases(source, run);
    merge_values(run, source);
    merge_values(keys, inference);
    // While the places are known where things were written.
    read_tree<TrainingConfig>(run);
    read_tree<InferenceKeys>(keys);
  };
  for (const std::filesystem::path& file : files) {
    Value source = parse_yaml(read_text_file(file), file.string());
    if (source.kind == Value::Kind::kNull) continue;
    if (source.kind != Value::Kind::kDict)
      throw UserError(file.string(), "expected sections such as model and generation, got " + describe_value(source),
                      "is this a config?");
    config.is_training_config |= source.find("training") != nullptr;
    merge(std::move(source));
  }
  for (const std::string& text : parse_overrides(overrides)) {
    const std::string key = text.substr(0, text.find('='));  // parse_overrides gives key=value
    config.model_named_by_override |= key == "model.model_name";
    Value& tree = is_inference_key(key.substr(0, key.find_first_of(".["))) ? keys : run;
    apply_override(tree, text);
    read_tree<TrainingConfig>(run);
    read_tree<InferenceKeys>(keys);
  }
  config.run = read_tree<TrainingConfig>(run);
  InferenceKeys read = read_tree<InferenceKeys>(keys);
  validate_generation(read.generation);
  validate_engine(read);
  config.generation = std::move(read.generation);
  config.input_path = std::move(read.input_path);
  config.output_path = std::move(read.output_path);
  config.system_prompt = std::move(read.system_prompt);
  return config;
}

}  // namespace oumi
