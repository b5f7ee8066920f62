#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"

namespace oumi::cli {
namespace {

enum class ConfigFile { kRequired, kOptional };

void add_config_options(CLI::App& verb, CommandLine& line, ConfigFile config = ConfigFile::kRequired) {
  verb.add_option("-c,--config", line.configs, "config file (YAML); may be repeated, later ones win")
      ->type_name("FILE")
      ->required(config == ConfigFile::kRequired)
      ->allow_extra_args(false);
  verb.add_option("--plugin", line.plugins, "shared library with models, datasets, ... of your own; may be repeated")
      ->type_name("LIB")
      ->allow_extra_args(false);
  verb.allow_extras();
  verb.footer(
      "Any field of the config can be given as --a.b value, --a.b=value or a.b=value. All fields: docs/config-reference.md");
}

void add_tokenizer_train(CLI::App& verb, CommandLine& line) {
  const auto add = [&](const char* name, const char* type, const char* help) {
    return verb.add_option(name, line.options[name], help)->type_name(type);
  };
  add("--files", "FILE...", "text to train on: plain text, or .json and .jsonl whose strings are taken")->required();
  add("--vocab-size", "N", "tokens in all, special ones included")->required()->expected(1)->check(CLI::PositiveNumber);
  add("--out", "DIR", "folder to write; Transformers' AutoTokenizer loads it")->required()->expected(1);
  add("--kind", "KIND", "bytelevel (default), bpe, unigram or wordpiece")->expected(1);
  add("--chat-template", "NAME", "built-in chat template, or a file; its tokens become special ones")->expected(1);
  add("--special", "TOKEN", "further special token; may be repeated")->allow_extra_args(false);
  for (const char* name : {"--bos", "--eos", "--unk", "--pad"})
    add(name, "TOKEN", "instead of the kind's usual one")->expected(1);
  add("--min-frequency", "N", "of a pair of tokens to be merged (default 2)")->expected(1)->check(CLI::PositiveNumber);
  add("--model-max-length", "N", "longest sequence, for tokenizer_config.json")->expected(1)->check(CLI::PositiveNumber);
  const auto add_flag = [&](const char* name, const char* help) {
    verb.add_flag_callback(name, [&line, name] { line.options[name] = {"true"}; }, help);
  };
  add_flag("--add-bos", "put the bos token before every text");
  add_flag("--add-eos", "put the eos token after every text");
  add_flag("--lowercase", "wordpiece: ignore case");
}

// Options that are short for a config field. Texts are quoted, so that none of them is read as YAML.
struct Shortcut {
  const char* option;
  const char* key;
  const char* type;
  const char* help;
};

constexpr Shortcut kGenerationShortcuts[] = {
    {"--max-new-tokens", "generation.max_new_tokens", "N", "longest answer, in tokens"},
    {"--temperature", "generation.temperature", "T", "above 0: sampling; 0: always the likeliest token"},
    {"--top-k", "generation.top_k", "K", "sample among the K likeliest tokens; 0: all"},
    {"--top-p", "generation.top_p", "P", "sample among the likeliest tokens that together reach P"},
    {"--min-p", "generation.min_p", "P", "sample among tokens with at least P times the likeliest one's probability"},
    {"--repetition-penalty", "generation.repetition_penalty", "R", "above 1: what was there becomes less likely"},
    {"--seed", "generation.seed", "N", "of the random numbers"},
    {"--batch-size", "generation.batch_size", "N", "rows that are answered together (1); 8 or 16 are several times faster"},
    {"--system-prompt", "system_prompt", "TEXT", "begins conversations that have no system message"},
};

void add_infer(CLI::App& app, CommandLine& line) {
  CLI::App* infer = app.add_subcommand("infer", "chat with a model, or answer a file of conversations or prompts");
  add_config_options(*infer, line, ConfigFile::kOptional);
  infer->add_option("--model", line.model, "a model's folder, an adapter's folder, or a name on the Hub")->type_name("MODEL");
  infer->add_option("--input", line.input, "JSONL with conversations ({\"messages\": ...}) or prompts ({\"prompt\": ...})")
      ->type_name("FILE");
  infer->add_option("-o,--output", line.output, "JSONL with the answers")->type_name("FILE");
  for (const Shortcut& shortcut : kGenerationShortcuts) {
    const bool text = std::string(shortcut.type) == "TEXT";
    infer
        ->add_option_function<std::string>(
            shortcut.option,
            [&line, shortcut, text](const std::string& value) {
              line.shortcuts.push_back(std::string(shortcut.key) + "=" + (text ? Json(value).dump() : value));
            },
            shortcut.help)
        ->type_name(shortcut.type);
  }
  infer
      ->add_option_function<std::vector<std::string>>(
          "--stop",
          [&line](const std::vector<std::string>& texts) {
            line.shortcuts.push_back("generation.stop_strings=" + Json(texts).dump());
          },
          "a text that ends the answer; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
}

// The first word of the command line that should have named a verb of `app` (or of the verb before it) and does not.
[[noreturn]] void throw_for_verb(const CLI::App& app, int argc, char** argv, const std::string& otherwise) {
  const CLI::App* owner = &app;
  std::string path = "oumi-cpp";
  for (int i = 1; i < argc && !owner->get_subcommands({}).empty(); ++i) {
    const std::string word = argv[i];
    if (word.starts_with("-")) break;
    std::vector<std::string> verbs;
    const CLI::App* next = nullptr;
    for (const CLI::App* verb : owner->get_subcommands({})) {
      verbs.push_back(verb->get_name());
      if (word == verb->get_name()) next = verb;
    }
    if (next == nullptr) {
      throw UserError("command line", "expected a command of " + path + ", got '" + word + "'", suggestion(word, verbs));
    }
    owner = next;
    path += " " + word;
  }
  throw UserError("command line", otherwise, "see " + path + " --help");
}

}  // namespace

CommandLine parse_command_line(int argc, char** argv, int& exit_code) {
  CommandLine line;
  exit_code = -1;
  CLI::App app("Train Oumi recipes and your own models natively in C++.", "oumi-cpp");
  app.set_version_flag("--version", std::string("oumi-cpp ") + kVersion);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);

  CLI::App* train = app.add_subcommand("train", "train a model by a config");
  add_config_options(*train, line);
  train->add_flag("--overwrite", line.overwrite, "delete what an earlier run left in training.output_dir");
  CLI::App* evaluate = app.add_subcommand("evaluate", "measure the trained model on data.validation");
  add_config_options(*evaluate, line);
  evaluate->add_flag("--json", line.json, "print one JSON object as the last line");
  evaluate->add_option("--model", line.model, "measure this model instead of the config's (language models)")
      ->type_name("MODEL");
  evaluate
      ->add_option("--multiple-choice", line.multiple_choice, "JSONL with questions for a language model: query, choices, gold")
      ->type_name("FILE");
  CLI::App* predict = app.add_subcommand("predict", "write the trained model's predictions for data.test or data.validation");
  add_config_options(*predict, line);
  predict
      ->add_option("-o,--output", line.output,
                   "predictions.parquet or predictions.jsonl (default: OUTPUT_DIR/predictions.jsonl)")
      ->type_name("FILE");

  CLI::App* tokenize = app.add_subcommand("tokenize", "show the training samples as the model gets them: tokens, mask, labels");
  add_config_options(*tokenize, line);
  tokenize->add_option("--limit", line.limit, "samples to show (default: all)")->type_name("N")->check(CLI::NonNegativeNumber);
  tokenize->add_flag("--json", line.json, "one JSON object a line: input_ids, attention_mask, labels, text");
  tokenize
      ->add_option("--megatron", line.output,
                   "write PREFIX.bin and PREFIX.idx, Megatron's indexed dataset, instead of showing samples")
      ->type_name("PREFIX");
  tokenize->add_flag("--append-eod", line.append_eod,
                     "with --megatron: the tokenizer's end-of-text token behind each document");
  tokenize->add_flag("--overwrite", line.overwrite, "with --megatron: replace files that are there");
  add_infer(app, line);
  CLI::App* launch = app.add_subcommand("launch", "run train or evaluate on several processes");
  launch->prefix_command();
  launch->add_option("--nproc-per-node,--nproc_per_node", line.launch.nproc_per_node, "processes on this machine")
      ->type_name("N")
      ->capture_default_str();
  launch->add_option("--nnodes", line.launch.nnodes, "machines")->type_name("M")->capture_default_str();
  launch->add_option("--node-rank,--node_rank", line.launch.node_rank, "number of this machine, from 0")
      ->type_name("R")
      ->capture_default_str();
  launch
      ->add_option("--rdzv-endpoint,--rdzv_endpoint", line.launch.rdzv_endpoint,
                   "where machine 0 can be reached; with several machines")
      ->type_name("HOST:PORT");
  launch
      ->add_option("--max-restarts,--max_restarts", line.launch.max_restarts,
                   "restarts from the last good checkpoint after a failure")
      ->type_name("N")
      ->capture_default_str();
  launch->footer("oumi-cpp launch --nproc-per-node 2 train -c CONFIG ...");

  CLI::App* config = app.add_subcommand("config", "look at a config");
  config->require_subcommand(1);
  add_config_options(*config->add_subcommand("show", "print the whole config as canonical YAML"), line);
  add_config_options(*config->add_subcommand("check", "build model and data, run one batch, and report on it"), line);

  CLI::App* checkpoint = app.add_subcommand("checkpoint", "verify or convert checkpoints");
  checkpoint->require_subcommand(1);
  for (const char* subverb : {"verify", "convert"}) {
    CLI::App* sub = checkpoint->add_subcommand(
        subverb, subverb == std::string("verify") ? "check that files are as they were written" : "write another format");
    sub->prefix_command();  // the command itself reads what follows, options and their values in their order
    sub->footer(
        subverb == std::string("verify")
            ? "oumi-cpp checkpoint verify PATH [--json]"
            : "oumi-cpp checkpoint convert PATH --to safetensors|pt|hf [-o OUTPUT] [--max-shard-size 5GB] [--overwrite]");
  }
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "make a tokenizer");
  tokenizer->require_subcommand(1);
  add_tokenizer_train(*tokenizer->add_subcommand("train", "train a tokenizer on text files"), line);
  CLI::App* make = app.add_subcommand("new", "write a project with a model of your own, ready to build and train");
  make->add_option("name", line.arguments, "the project's name, also its folder")->required()->type_name("NAME")->expected(1);
  CLI::App* report = app.add_subcommand("report", "write one HTML page about a run");
  report->add_option("output_dir", line.arguments, "the run's training.output_dir")
      ->required()
      ->type_name("OUTPUT_DIR")
      ->expected(1);
  report->add_option("-o,--output", line.output, "default: OUTPUT_DIR/report.html")->type_name("FILE");
  CLI::App* env = app.add_subcommand("env", "print versions, processor and memory");
  env->add_flag("--json", line.json, "as one JSON object");
  CLI::App* completion = app.add_subcommand("completion", "print a shell completion script");
  completion->add_option("shell", line.arguments, "bash, zsh or fish")->required()->type_name("SHELL")->expected(1);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForVersion& version) {
    exit_code = app.exit(version);
    return line;
  } catch (const CLI::CallForHelp& help) {
    exit_code = app.exit(help);
    return line;
  } catch (const CLI::ParseError& error) {
    throw_for_verb(app, argc, argv, error.what());
  }
  const CLI::App* verb = app.get_subcommands().front();
  line.verb = verb->get_name();
  if (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().front();
    line.subverb = verb->get_name();
  }
  line.overrides = verb->remaining();
  if (!line.model.empty()) line.shortcuts.push_back("model.model_name=" + Json(line.model).dump());
  line.overrides.insert(line.overrides.end(), line.shortcuts.begin(), line.shortcuts.end());
  line.launch.command = line.overrides;
  return line;
}

}  // namespace oumi::cli
