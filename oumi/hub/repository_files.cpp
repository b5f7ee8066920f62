#include "oumi/hub/repository_files.h"

#include <algorithm>
#include <set>

#include "oumi/base/error.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr const char* kSmallFiles[] = {"config.json",
                                       "generation_config.json",
                                       "tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "vocab.json",
                                       "merges.txt",
                                       "vocab.txt",
                                       "tokenizer.model",
                                       "chat_template.jinja",
                                       "chat_template.json",
                                       "adapter_config.json"};
constexpr const char* kSingleWeights[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                          "pytorch_model.bin.index.json"};
constexpr const char* kAdapterWeights[] = {"adapter_model.safetensors", "adapter_model.bin"};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool is_safe_relative_path(const std::string& name) {
  if (name.empty() || name.size() > 512) return false;
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 32 || c == '\\' || c == 127) return false;
  }
  for (const std::string& part : split(name, '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

std::vector<std::string> shards_of_index(const std::string& text, const std::string& origin) {
  const Json index = parse_json(text, origin);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty())
    throw UserError(origin, "key 'weight_map': expected tensor names and their files, got none");
  std::set<std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_safe_relative_path(file.get<std::string>())) {
      throw UserError(origin, "weight_map['" + tensor + "']: expected a file's name, got " + file.dump());
    }
    shards.insert(file.get<std::string>());
  }
  return {shards.begin(), shards.end()};
}

std::vector<std::string> needed_files(const std::vector<std::string>& available, HubFiles files, const std::string& repository,
                                      const std::function<std::string(const std::string& name)>& read) {
  std::vector<std::string> needed;
  for (const char* name : kSmallFiles) {
    if (contains(available, name)) needed.emplace_back(name);
  }
  if (files != HubFiles::kModel) return needed;
  bool found = false;
  for (const char* name : kAdapterWeights) {
    if (!found && contains(available, name)) {
      needed.emplace_back(name);
      found = true;
    }
  }
  for (const char* name : kSingleWeights) {
    if (!contains(available, name)) continue;
    needed.emplace_back(name);
    if (std::string(name).ends_with(".index.json")) {
      for (const std::string& shard : shards_of_index(read(name), repository + "/" + name)) {
        if (!contains(available, shard))
          throw UserError(repository, std::string(name) + " names a file that is missing: " + shard,
                          "the upload may not be complete; choose another revision");
        needed.push_back(shard);
      }
    }
    return needed;
  }
  if (!found) {
    throw UserError(repository, "holds no weights: expected model.safetensors, its shards or pytorch_model.bin",
                    "is it a model in Hugging Face's format? Set model.load_pretrained_weights: false to train its "
                    "architecture from scratch");
  }
  return needed;
}

}  // namespace oumi
