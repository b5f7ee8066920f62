// Where encoded samples are kept between runs.
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/data/text/cache_room.h"
#include "oumi/data/text/token_file.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

// A larger file is taken by its size and structure alone: reading it all would be most of a second start.
constexpr std::uintmax_t kHashedSize = std::uintmax_t{1} << 30;

struct Entry {
  fs::path tokens, note, lock;
};

Entry entry_of(const fs::path& folder, const std::string& key) {
  return {folder / (key + ".arrow"), folder / (key + ".json"), folder / (key + ".lock")};
}

// nullptr when the entry isn't there; when it is damaged, `why` says so.
std::shared_ptr<const TokenFile> open_entry(const Entry& entry, std::string& why) {
  if (!fs::exists(entry.note) || !fs::exists(entry.tokens)) return nullptr;
  try {
    const Json note = read_json_file(entry.note);
    if (note.at("bytes").get<std::uint64_t>() != fs::file_size(entry.tokens))
      why = "its size is not the one it was written with";
    else if (fs::file_size(entry.tokens) <= kHashedSize && note.at("xxh3_128").get<std::string>() != hash_file(entry.tokens))
      why = "its hash is not the one it was written with";
    else
      return std::make_shared<const TokenFile>(entry.tokens);
  } catch (const std::exception& error) {
    why = error.what();
  }
  return nullptr;
}

void write_entry(const Entry& entry, const CacheRequest& request) {
  const fs::path temporary = entry.tokens.string() + cat(".tmp-", getpid());
  try {
    TokenFileWriter writer(temporary);
    request.write(writer);
    writer.close();
    fsync_path(temporary);
    const Json note = {{"what", request.what},
                       {"rows", writer.rows()},
                       {"bytes", fs::file_size(temporary)},
                       {"xxh3_128", hash_file(temporary)}};
    fs::remove(entry.note);
    fs::rename(temporary, entry.tokens);
    write_file_atomically(entry.note, note.dump(2) + "\n");
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

std::shared_ptr<const TokenFile> write_temporary(const CacheRequest& request) {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "tokens.arrow";
  TokenFileWriter writer(path);
  request.write(writer);
  writer.close();
  return std::make_shared<const TokenFile>(path);  // mapped: its name may go
}

}  // namespace

fs::path cache_folder() {
  if (const char* folder = std::getenv("OUMI_CACHE"); folder != nullptr && *folder != '\0') return folder;
  if (const char* folder = std::getenv("XDG_CACHE_HOME"); folder != nullptr && *folder != '\0')
    return fs::path(folder) / "oumi";
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? fs::temp_directory_path() / "oumi-cache" : fs::path(home) / ".cache" / "oumi";
}

std::shared_ptr<const TokenFile> cached_tokens(const CacheRequest& request) {
  const auto notice = [&](const std::string& text) {
    if (request.notice) request.notice(text);
  };
  const fs::path folder = cache_folder() / "tokens";
  const std::uint64_t limit = cache_limit();
  const Entry entry = entry_of(folder, request.key);
  std::optional<CacheLock> lock;
  try {
    make_directories(folder);
    lock.emplace(entry.lock);
  } catch (const EnvironmentError& error) {
    notice(cat("encoded samples are not kept: ", error.message(), "; set OUMI_CACHE to a folder that can be written"));
    return write_temporary(request);
  }
  std::string damage;
  if (auto tokens = open_entry(entry, damage)) {
    std::error_code ignored;  // in a folder of others it keeps its time
    fs::last_write_time(entry.note, fs::file_time_type::clock::now(), ignored);
    notice(cat(request.what, ": encoded samples are read from ", entry.tokens.string()));
    return tokens;
  }
  if (!damage.empty()) notice(cat(entry.tokens.string(), ": ", damage, "; it is written again"));
  const auto start = std::chrono::steady_clock::now();
  remove_leftovers(folder, request.key);
  write_entry(entry, request);
  make_room(folder, request.key, limit, request.notice);
  auto tokens = std::make_shared<const TokenFile>(entry.tokens);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  notice(cat(request.what, ": ", tokens->rows(), " samples encoded in ",
             static_cast<double>(static_cast<std::int64_t>(seconds * 10)) / 10, " s"));
  return tokens;
}

}  // namespace oumi
