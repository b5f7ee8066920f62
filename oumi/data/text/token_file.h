// Encoded samples on disk: a memory-mapped Arrow IPC file, in a cache keyed by everything that the tokens depend on. No torch
// here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "oumi/data/text/label_masks.h"
#include "oumi/data/token_counts.h"

namespace oumi {

// One encoded sample. Without labels of its own, every token is trained on.
struct EncodedRow {
  TokenIds ids;
  std::optional<TokenIds> labels = std::nullopt;
  std::int64_t dropped = 0;  // tokens cut off at the longest length
};

TokenCounts count_tokens(TokenSpan ids, TokenSpan labels, std::int32_t ignore_index = kIgnoredLabel);

// Random access to the samples of a file; cheap to open, and the pages that are read are all the memory it takes.
class TokenFile {
 public:
  // Throws UserError when it is no such file, or damaged as far as its structure shows.
  explicit TokenFile(const std::filesystem::path& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  std::int64_t rows() const noexcept;
  // Valid as long as this object. Labels are the ids themselves where the row has none of its own.
  TokenSpan ids(std::int64_t row) const;
  TokenSpan labels(std::int64_t row) const;
  TokenCounts counts(std::int64_t row) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes rows in the order in which they are added. Throws EnvironmentError.
class TokenFileWriter {
 public:
  explicit TokenFileWriter(const std::filesystem::path& path);
  ~TokenFileWriter();
  void add(EncodedRow row);
  void close();
  std::int64_t rows() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// $OUMI_CACHE, else $XDG_CACHE_HOME/oumi, else ~/.cache/oumi.
std::filesystem::path cache_folder();

struct CacheRequest {
  std::string key;   // a hash: files, tokenizer, template, options
  std::string what;  // "data/chats.jsonl", for notices
  std::function<void(TokenFileWriter&)> write;
  std::function<void(const std::string&)> notice = nullptr;
};

// The file of `key` in cache_folder()/tokens: the one that is there, or a new one, which appears whole or not at all. A damaged
// one (its size or hash differ from those noted beside it) is written again. Processes that want the same key wait for the one
// that writes it. Where the folder can't be written, the file is a temporary one. A new entry
// makes room for itself (cache_room.h).
std::shared_ptr<const TokenFile> cached_tokens(const CacheRequest& request);

}  // namespace oumi
