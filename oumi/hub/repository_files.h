// Which of a model repository's files a run needs.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace oumi {

enum class HubFiles {
  kTokenizer,  // tokenizer and configs
  kConfig,     // the same, for a model that is trained from scratch
  kModel,      // and the weights
};

// The files to have, out of `available` (all names of the repository): configs, tokenizer files and, for kModel, weights: one
// safetensors file, else a safetensors index with its shards, else the same as pytorch_model.bin; an adapter's weights beside
// them. `read` gives the text of an index. Throws UserError naming `repository` when there are no weights or a shard is not
// available.
std::vector<std::string> needed_files(const std::vector<std::string>& available, HubFiles files, const std::string& repository,
                                      const std::function<std::string(const std::string& name)>& read);

// The shards that an index file names, each once, sorted. Throws UserError naming `origin`.
std::vector<std::string> shards_of_index(const std::string& text, const std::string& origin);

// A relative path without "..", empty parts, backslashes or control characters: what may become a path in the cache.
bool is_safe_relative_path(const std::string& name);

}  // namespace oumi
