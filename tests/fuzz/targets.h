// The parsers that read what strangers wrote. A target takes any bytes: it returns, or throws an Error of the user's or the
// environment's kind. Anything else (InternalError, std::exception, a crash, a sanitizer's report) is a bug.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace oumi::fuzz {

struct Target {
  const char* name;
  void (*parse)(std::string_view bytes);
  std::vector<std::string> (*seeds)();  // small valid inputs that mutations start from
};

// The name says the format: config, overrides, split, manifest, safetensors, torch_file, idx, npz, csv, jsonl, megatron_index,
// ...
std::span<const Target> targets();
// nullptr when there is none.
const Target* find_target(std::string_view name);

// Feeds one input; returns what went wrong, empty when nothing did.
std::string run(const Target& target, std::string_view bytes);

}  // namespace oumi::fuzz
