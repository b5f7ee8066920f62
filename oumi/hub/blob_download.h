// One file of a repository into the cache: resumed where an earlier download stopped, checked, then renamed to its name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "oumi/hub/http.h"

namespace oumi {

// What a HEAD request says about a file.
struct RemoteFile {
  std::string name;  // within the repository
  std::string url;
  std::string etag = {};   // 64 hex digits: SHA-256; 40: git's SHA-1; anything else is not checked
  std::uint64_t size = 0;  // bytes
};

using DownloadProgress = std::function<void(const RemoteFile& file, std::uint64_t done)>;

// Downloads to `blob`, by way of BLOB.incomplete, unless it is there already. A connection that is cut is taken up again; a
// file whose hash is wrong is deleted. Waits while another process downloads the same blob (flock on `lock_file`). Throws
// TransferFailure when the network stays away, EnvironmentError for disk and hash, UserError for a status of 4xx.
void download_blob(HttpClient& client, const RemoteFile& file, const std::filesystem::path& blob,
                   const std::filesystem::path& lock_file, const DownloadProgress& progress);

}  // namespace oumi
