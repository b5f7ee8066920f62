#include "cli/tokenizer_command.h"

#include <filesystem>
#include <iostream>
#include <optional>

#include "oumi/base/error.h"
#include "oumi/text/train_tokenizer.h"

namespace oumi::cli {
namespace {

using Options = std::map<std::string, std::vector<std::string>>;

std::optional<std::string> value(const Options& options, const std::string& name) {
  const auto found = options.find(name);
  if (found == options.end() || found->second.empty()) return std::nullopt;
  return found->second.back();
}

std::optional<std::int64_t> number(const Options& options, const std::string& name) {
  const auto text = value(options, name);
  if (!text) return std::nullopt;
  try {
    std::size_t used = 0;
    const std::int64_t result = std::stoll(*text, &used);
    if (used == text->size()) return result;
  } catch (const std::exception&) {  // said below
  }
  throw UserError("command line", name + ": expected an integer, got '" + *text + "'");
}

}  // namespace

int tokenizer_train_command(const Options& options) {
  TrainTokenizerOptions train;
  for (const std::string& file : options.at("--files")) train.files.emplace_back(file);
  train.vocab_size = number(options, "--vocab-size").value();
  train.kind = value(options, "--kind").value_or(train.kind);
  train.min_frequency = number(options, "--min-frequency").value_or(train.min_frequency);
  train.model_max_length = number(options, "--model-max-length");
  train.bos_token = value(options, "--bos");
  train.eos_token = value(options, "--eos");
  train.unk_token = value(options, "--unk");
  train.pad_token = value(options, "--pad");
  train.chat_template = value(options, "--chat-template");
  if (const auto found = options.find("--special"); found != options.end()) train.special_tokens = found->second;
  train.add_bos_token = value(options, "--add-bos").has_value();
  train.add_eos_token = value(options, "--add-eos").has_value();
  train.lowercase = value(options, "--lowercase").has_value();

  const std::filesystem::path folder = value(options, "--out").value();
  const TrainedTokenizer trained = train_tokenizer(train, folder);
  if (trained.vocab_size < train.vocab_size) {
    std::cerr << "notice: the text gives " << trained.vocab_size << " tokens, fewer than --vocab-size " << train.vocab_size
              << '\n';
  }
  for (const std::string& file : trained.files) std::cout << (folder / file).string() << '\n';
  std::cout << "vocabulary: " << trained.vocab_size << " tokens\n";
  return 0;
}

}  // namespace oumi::cli
