// oumi-cpp tokenize: the training samples as the model gets them.
#include <unistd.h>

#include <iostream>
#include <limits>

#include "cli/tokenize_megatron.h"
#include "cli/train_commands.h"
#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/label_masks.h"
#include "oumi/data/text/token_dataset.h"
#include "oumi/data/text/token_report.h"
#include "oumi/trainer/run_data.h"

namespace oumi::cli {
namespace {

constexpr const char* kTrained = "\x1b[32m";   // green
constexpr const char* kIgnored = "\x1b[2m";    // dim
constexpr const char* kBoundary = "\x1b[36m";  // cyan: where a packed row's next sample begins
constexpr const char* kReset = "\x1b[0m";

// Text of one token for the eye: newlines and tabs as signs, bytes that are no text of their own as U+FFFD.
std::string shown(const Tokenizer* tokenizer, std::int32_t id) {
  if (tokenizer == nullptr) return "";
  std::string out;
  for (const char c : tokenizer->decode(std::span(&id, 1))) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else
      out += c;
  }
  return out;
}

Json list_of(const TokenIds& ids) {
  Json list = Json::array();
  for (const std::int32_t id : ids) list.push_back(id);
  return list;
}

Json text_of(const Tokenizer* tokenizer, const TokenIds& ids) {
  return tokenizer == nullptr ? Json(nullptr) : Json(tokenizer->decode(ids));
}

Json as_json(const Sample& sample, const Tokenizer* tokenizer) {
  Json json = Json::object();
  for (const auto& [name, value] : sample) {
    if (value.dim() == 1 && c10::isIntegralType(value.scalar_type(), false))
      json[name] = list_of(token_field(sample, name, name));
    else if (value.dim() == 0 && value.scalar_type() == c10::kBool)
      json[name] = value.item<bool>();
  }
  if (sample.contains("input_ids")) {
    json["text"] = text_of(tokenizer, token_field(sample, "input_ids", "input_ids"));
    return json;
  }
  // Preferences: each part's text by its name.
  for (const char* part : {"prompt", "chosen", "rejected", "completion"}) {
    const std::string ids = cat(part, "_ids");
    if (sample.contains(ids)) json[part] = text_of(tokenizer, token_field(sample, ids, ids));
  }
  return json;
}

void print_table(const TokenIds& ids, const TokenIds& labels, const Tokenizer* tokenizer) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::cout << ids[i] << '\t' << (labels[i] == kIgnoredLabel ? "-" : std::to_string(labels[i])) << '\t'
              << shown(tokenizer, ids[i]) << '\n';
  }
}

void print_coloured(const TokenIds& ids, const TokenIds& labels, const TokenIds& positions, const Tokenizer* tokenizer) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && i < positions.size() && positions[i] == 0) std::cout << kBoundary << "┃" << kReset;
    std::cout << (labels[i] == kIgnoredLabel ? kIgnored : kTrained);
    if (tokenizer == nullptr)
      std::cout << ids[i] << ' ';
    else
      std::cout << shown(tokenizer, ids[i]) << "·";
    std::cout << kReset;
    if (tokenizer != nullptr && tokenizer->decode(std::span(&ids[i], 1)).ends_with('\n')) std::cout << '\n';
  }
  std::cout << '\n';
}

void print(const Sample& sample, std::int64_t index, const Tokenizer* tokenizer) {
  if (!sample.contains("input_ids")) {
    std::cout << "sample " << index << '\n';
    const Json parts = as_json(sample, tokenizer);
    for (const auto& [name, value] : parts.items())
      std::cout << "  " << name << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
    return;
  }
  const TokenIds ids = token_field(sample, "input_ids", "input_ids");
  const TokenIds labels = sample.contains("labels") ? token_field(sample, "labels", "labels") : ids;
  const TokenIds positions = sample.contains("position_ids") ? token_field(sample, "position_ids", "position_ids") : TokenIds{};
  const TokenCounts counts = count_tokens(ids, labels);
  std::cout << "sample " << index << ": " << counts.tokens << " tokens, " << counts.supervised << " supervised\n";
  if (isatty(STDOUT_FILENO) != 0)
    print_coloured(ids, labels, positions, tokenizer);
  else
    print_table(ids, labels, tokenizer);
}

}  // namespace

int tokenize_command(const CommandLine& line) {
  const TrainingConfig config = load_config({line.configs.begin(), line.configs.end()}, line.overrides);
  if (!line.output.empty()) return write_megatron(config, line);
  if (line.append_eod || line.overwrite)
    throw UserError("command line", "--append-eod and --overwrite are for --megatron: expected it beside them, got neither");
  // Nothing but samples on stdout: their readers parse it.
  const RunData data(config,
                     {.notice = [](const std::string& notice) { std::cerr << notice << '\n'; }, .allow_preferences = true});
  const DatasetPtr dataset = data.dataset(DatasetSplitKind::kTrain);
  const bool map_style = dataset->is_map_style();
  const std::int64_t limit = line.limit < 0 ? std::numeric_limits<std::int64_t>::max() : line.limit;
  const std::int64_t count = map_style ? std::min(limit, dataset->size()) : limit;
  if (!map_style) dataset->set_epoch(0);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::optional<Sample> sample = map_style ? dataset->get(i) : dataset->next();
    if (!sample) break;
    if (line.json)
      std::cout << as_json(*sample, data.tokenizer().get()).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    else
      print(*sample, i, data.tokenizer().get());
  }
  return 0;
}

}  // namespace oumi::cli
