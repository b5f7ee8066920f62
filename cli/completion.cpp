#include "cli/completion.h"

#include <iostream>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/reference.h"

namespace oumi::cli {

namespace {

struct Verb {
  const char* name;
  const char* help;
  const char* options;  // separated by spaces
  const char* words;    // second words: subverbs or values, separated by spaces
  bool takes_config;    // -c CONFIG and overrides
};

constexpr Verb kVerbs[] = {
    {"train", "train a model by a config", "--config --plugin --overwrite --help", "", true},
    {"evaluate", "measure a model on data.validation", "--config --plugin --json --model --multiple-choice --help", "", true},
    {"predict", "write a model's predictions", "--config --plugin --output --help", "", true},
    {"tokenize", "show the training samples as the model gets them",
     "--config --plugin --limit --json --megatron --append-eod --overwrite --help", "", true},
    {"infer", "chat with a model, or answer a file",
     "--config --plugin --model --input --output --max-new-tokens --temperature --top-k --top-p --min-p --repetition-penalty "
     "--seed "
     "--batch-size --system-prompt --stop --help",
     "", true},
    {"launch", "run train or evaluate on several processes",
     "--nproc-per-node --nnodes --node-rank --rdzv-endpoint --max-restarts --help", "train evaluate", false},
    {"config", "show or check a config", "--config --plugin --help", "show check", true},
    {"checkpoint", "verify or convert checkpoints", "--help", "verify convert", false},
    {"tokenizer", "make a tokenizer",
     "--files --vocab-size --out --kind --chat-template --special --bos --eos --unk --pad --min-frequency --model-max-length "
     "--add-bos --add-eos --lowercase --help",
     "train", false},
    {"new", "write a project with a model of your own", "--help", "", false},
    {"env", "print versions, processor and memory", "--json --help", "", false},
    {"report", "write one HTML page about a run", "--output --help", "", false},
    {"completion", "print a shell completion script", "--help", "bash zsh fish", false},
};

// Safe between single quotes in all three shells: helps hold apostrophes and other punctuation.
std::string plain(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\'')
      result += "’";
    else if (c != '"' && c != '`' && c != '\\' && c != '$')
      result += c == '\n' || c == '\t' ? ' ' : c;
  }
  return result;
}

std::string bash_script(const std::vector<ConfigKeyHelp>& keys) {
  std::string verbs, cases, key_words;
  for (const Verb& verb : kVerbs) {
    verbs += cat(verbs.empty() ? "" : " ", verb.name);
    cases += cat("    ", verb.name, ") options='", verb.options, "'; words='", verb.words,
                 "'; config=", verb.takes_config ? 1 : 0, " ;;\n");
  }
  for (const ConfigKeyHelp& key : keys) key_words += cat(key_words.empty() ? "" : " ", "--", plain(key.key));
  return cat(R"(# bash completion for oumi-cpp:  source <(oumi-cpp completion bash)
_oumi_cpp() {
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" options='' words='' config=0
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W ')",
             verbs, R"( --help --version' -- "$current"))
    return
  fi
  case "${COMP_WORDS[1]}" in
)",
             cases, R"(  esac
  case "$previous" in
    -c|--config|-o|--output|--plugin|--model|--input|--multiple-choice|--files|--out|--megatron) compopt -o default; return ;;
  esac
  if [[ $COMP_CWORD -eq 2 && -n $words && $current != -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ $current == -* ]]; then
    local keys=''
    [[ $config -eq 1 ]] && keys=')",
             key_words, R"('
    COMPREPLY=($(compgen -W "$options $keys" -- "$current"))
  else
    compopt -o default
  fi
}
complete -F _oumi_cpp oumi-cpp
)");
}

std::string zsh_script(const std::vector<ConfigKeyHelp>& keys) {
  // _describe splits "name:help" at the first colon, which no key holds.
  std::string verbs, cases, key_list;
  for (const Verb& verb : kVerbs) {
    verbs += cat("    '", verb.name, ":", plain(verb.help), "'\n");
    cases += cat("    ", verb.name, ") options=(", verb.options, "); words_=(", verb.words,
                 "); config=", verb.takes_config ? 1 : 0, " ;;\n");
  }
  for (const ConfigKeyHelp& key : keys) key_list += cat("    '--", plain(key.key), ":", plain(key.help), "'\n");
  return cat(R"(#compdef oumi-cpp
# zsh completion for oumi-cpp:  source <(oumi-cpp completion zsh)
_oumi_cpp() {
  local -a verbs keys options words_
  local config=0
  verbs=(
)",
             verbs, R"(  )
  if (( CURRENT == 2 )); then
    _describe 'command' verbs
    return
  fi
  case "$words[2]" in
)",
             cases, R"(  esac
  case "$words[CURRENT-1]" in
    -c|--config|-o|--output|--plugin|--model|--input|--multiple-choice|--files|--out|--megatron) _files; return ;;
  esac
  if (( CURRENT == 3 && $#words_ )) && [[ "$words[CURRENT]" != -* ]]; then
    compadd -a words_
  elif [[ "$words[CURRENT]" == -* ]]; then
    compadd -a options
    if (( config )); then
      keys=(
)",
             key_list, R"(      )
      _describe -o 'config key' keys
    fi
  else
    _files
  fi
}
if [[ "$funcstack[1]" == _oumi_cpp ]]; then
  _oumi_cpp "$@"
else
  compdef _oumi_cpp oumi-cpp
fi
)");
}

std::string fish_script(const std::vector<ConfigKeyHelp>& keys) {
  std::string script =
      "# fish completion for oumi-cpp:  oumi-cpp completion fish | source\ncomplete -c oumi-cpp -f -n __fish_use_subcommand -l "
      "help -d 'print help'\n"
      "complete -c oumi-cpp -f -n __fish_use_subcommand -l version -d 'print the version'\n";
  std::string with_config;
  for (const Verb& verb : kVerbs) {
    script += cat("complete -c oumi-cpp -f -n __fish_use_subcommand -a ", verb.name, " -d '", plain(verb.help), "'\n");
    const std::string condition = cat(" -n '__fish_seen_subcommand_from ", verb.name, "'");
    for (const std::string& option : split(verb.options, ' ')) {
      const std::string name = option.substr(2);
      const char* extra =
          name == "config"   ? " -s c -r -F"
          : name == "output" ? " -s o -r -F"
          : name == "plugin" || name == "model" || name == "input" || name == "multiple-choice" || name == "megatron" ? " -r -F"
          : name == "limit" || name == "nproc-per-node" || (std::string_view(verb.name) == "infer" && name != "help") ? " -x"
                                                                                                                      : "";
      script += cat("complete -c oumi-cpp", condition, extra, " -l ", name, "\n");
    }
    if (*verb.words != '\0') script += cat("complete -c oumi-cpp -f", condition, " -a '", verb.words, "'\n");
    if (verb.takes_config) with_config += cat(with_config.empty() ? "" : " ", verb.name);
  }
  for (const ConfigKeyHelp& key : keys) {
    script += cat("complete -c oumi-cpp -x -n '__fish_seen_subcommand_from ", with_config, "' -l '", plain(key.key), "' -d '",
                  plain(key.help), "'\n");
  }
  return script;
}

}  // namespace

std::string completion_script(Shell shell, const std::vector<ConfigKeyHelp>& keys) {
  switch (shell) {
    case Shell::kBash: return bash_script(keys);
    case Shell::kZsh: return zsh_script(keys);
    case Shell::kFish: return fish_script(keys);
  }
  throw InternalError("no such shell");
}

int completion_command(const std::vector<std::string>& arguments) {
  const std::vector<std::string> names = {"bash", "zsh", "fish"};
  if (arguments.size() != 1) throw UserError("command line", "completion: expected one of bash, zsh, fish");
  const std::string& name = arguments.front();
  const Shell shell =
      name == "bash"   ? Shell::kBash
      : name == "zsh"  ? Shell::kZsh
      : name == "fish" ? Shell::kFish
                       : throw UserError("command line", "completion: unknown shell '" + name + "'", suggestion(name, names));
  std::vector<ConfigKeyHelp> keys;
  for (const KeyHelp& key : config_keys()) {
    // Items of lists are addressed by number; the first one shows the way.
    std::string name = key.key;
    for (auto at = name.find("[]"); at != std::string::npos; at = name.find("[]")) name.replace(at, 2, "[0]");
    keys.push_back({name, key.help});
  }
  std::cout << completion_script(shell, keys);
  return 0;
}

}  // namespace oumi::cli
