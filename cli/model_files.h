// The files of a model's folder, by whatever tells that they are as they were written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace oumi::cli {

struct FileReport {
  std::string file;
  std::uint64_t size = 0;
  std::string by;       // what it was held against: "its own hashes", ...
  std::string problem;  // empty: none
};

// True for a folder with weights that is no checkpoint of ours: a run's final model, a downloaded one, an adapter.
bool has_model_files(const std::filesystem::path& folder);

// Reads all of them. A file of the Hugging Face cache is held against the hash that its blob is named by; weights against the
// hashes that files of ours keep, or, of language models and adapters, for values that no weight has; JSON is parsed; an
// index's shards must be there. What none of these speaks of isn't listed. Throws nothing of its own.
std::vector<FileReport> check_model_files(const std::filesystem::path& folder);

}  // namespace oumi::cli
