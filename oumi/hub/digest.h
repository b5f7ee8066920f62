// The two hashes by which the Hub names a file's contents.
#pragma once

#include <filesystem>
#include <string>

namespace oumi {

// SHA-256 of a file's bytes, 64 hex digits: the etag of files in large-file storage.
std::string sha256_file(const std::filesystem::path& path);

// SHA-1 as git names a file's contents, 40 hex digits: the etag of files kept in git itself.
std::string git_blob_sha1_file(const std::filesystem::path& path);

}  // namespace oumi
