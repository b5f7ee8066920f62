#include "oumi/hub/hub.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/hub/blob_download.h"
#include "oumi/hub/cache.h"
#include "oumi/hub/settings.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::function<void(const HubEvent&)>& listener() {
  static std::function<void(const HubEvent&)> current;
  return current;
}

void notify(const HubEvent& event) {
  if (listener()) listener()(event);
}

// W/"abc" -> abc. Becomes a file's name, so nothing else is taken.
std::string normalized_etag(std::string etag, const std::string& url) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  const bool plain = !etag.empty() && etag.size() <= 200 && etag.front() != '.' &&
                     std::all_of(etag.begin(), etag.end(),
                                 [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; });
  if (!plain)
    throw EnvironmentError(url, "expected an ETag that names the file's contents, got '" + etag + "'",
                           "check HF_ENDPOINT: is it a Hugging Face Hub?");
  return etag;
}

// One repository at one revision.
class Repository {
 public:
  Repository(std::string name, std::string revision, std::string key, const HubSettings& settings)
      : name_(std::move(name)),
        revision_(std::move(revision)),
        key_(std::move(key)),
        settings_(settings),
        cache_(settings.cache, name_),
        client_({settings.endpoint, settings.token, settings.connect_timeout, settings.stall_timeout, settings.ca_bundle}) {}

  const HubCache& cache() const { return cache_; }

  // Asks which commit the revision is and which files it has, and downloads those that are missing.
  fs::path download(HubFiles files) {
    const std::string url = settings_.endpoint + "/api/models/" + url_encode(name_, "/") + "/revision/" + url_encode(revision_);
    const HttpResponse response = client_.get(url);
    if (response.status != 200) refuse(response);
    const Json info = parse_json(response.body, url);
    const auto sha = info.is_object() ? info.find("sha") : info.end();
    const auto siblings = info.is_object() ? info.find("siblings") : info.end();
    if (sha == info.end() || !sha->is_string() || !is_commit_hash(sha->get<std::string>()) || siblings == info.end() ||
        !siblings->is_array()) {
      throw EnvironmentError(url, "expected a model's commit and files, got another answer",
                             "check HF_ENDPOINT: is it a Hugging Face Hub?");
    }
    commit_ = sha->get<std::string>();
    std::vector<std::string> available;
    for (const Json& sibling : *siblings) {
      const auto file = sibling.is_object() ? sibling.find("rfilename") : sibling.end();
      if (file != sibling.end() && file->is_string() && is_safe_relative_path(file->get<std::string>()))
        available.push_back(file->get<std::string>());
    }
    const auto read = [this](const std::string& file) {
      fetch(file);
      return read_text_file(cache_.snapshot(commit_) / file);
    };
    // Small files come first in the list, so a wrong name or a gate shows before gigabytes are on their way.
    for (const std::string& file : needed_files(available, files, name_, read)) fetch(file);
    make_directories(cache_.snapshot(commit_));
    cache_.write_ref(revision_, commit_);
    return cache_.snapshot(commit_);
  }

 private:
  void fetch(const std::string& file) {
    std::error_code ignored;
    if (fs::is_regular_file(cache_.snapshot(commit_) / file, ignored)) return;
    RemoteFile remote{
        .name = file,
        .url = settings_.endpoint + "/" + url_encode(name_, "/") + "/resolve/" + commit_ + "/" + url_encode(file, "/")};
    const HttpResponse head = client_.head(remote.url);
    if (head.status >= 400) refuse(head);
    const std::string linked = head.header("x-linked-etag"), size = head.header("x-linked-size").empty()
                                                                        ? head.header("content-length")
                                                                        : head.header("x-linked-size");
    remote.etag = normalized_etag(linked.empty() ? head.header("etag") : linked, remote.url);
    char* end = nullptr;
    remote.size = std::strtoull(size.c_str(), &end, 10);
    if (size.empty() || *end != '\0')
      throw EnvironmentError(remote.url, "expected the file's size, got '" + size + "'",
                             "check HF_ENDPOINT: is it a Hugging Face Hub?");
    download_blob(client_, remote, cache_.blob(remote.etag), cache_.lock_file(remote.etag),
                  [](const RemoteFile& downloaded, std::uint64_t done) {
                    notify({.file = downloaded.name, .done = done, .total = downloaded.size});
                  });
    cache_.link(commit_, file, remote.etag);
  }

  [[noreturn]] void refuse(const HttpResponse& response) const {
    const std::string code = response.header("x-error-code"), page = settings_.endpoint + "/" + name_;
    const int status = response.status;
    const bool has_token = !settings_.token.empty();
    if (code == "GatedRepo" || status == 403 || (status == 401 && code != "RepoNotFound")) {
      throw UserError(
          key_, cat("'", name_, "' is gated or private: access denied (HTTP ", status, ")"),
          "accept the model's terms on " + page + (has_token ? "; the account of HF_TOKEN needs access" : " and set HF_TOKEN"));
    }
    if (code == "RevisionNotFound") {
      throw UserError("model.model_revision", "'" + name_ + "' has no revision '" + revision_ + "'",
                      "name a branch, tag or commit that " + page + " lists");
    }
    if (status == 401 || status == 404) {
      throw UserError(
          key_, cat("'", name_, "' is neither a local folder nor a model on ", settings_.endpoint, " (HTTP ", status, ")"),
          has_token ? "check the name; a private model needs a token of an account that sees it"
                    : "check the name; for a private model set HF_TOKEN");
    }
    throw EnvironmentError(settings_.endpoint, cat("asked for '", name_, "': got HTTP status ", status),
                           status == 429 ? "too many requests; wait a while, or set HF_TOKEN" : "try again later");
  }

  std::string name_, revision_, key_, commit_;
  const HubSettings& settings_;
  HubCache cache_;
  HttpClient client_;
};

std::string not_cached(const std::string& name, const std::string& revision, const fs::path& cache) {
  return "'" + name + "' (" + revision + ") is not in the cache " + cache.string();
}

}  // namespace

void set_hub_listener(std::function<void(const HubEvent&)> callback) { listener() = std::move(callback); }

bool is_hub_name(const std::string& name) {
  if (name.empty() || name.size() > 200 || std::count(name.begin(), name.end(), '/') > 1) return false;
  for (const std::string& part : split(name, '/')) {
    if (part.empty() || part.front() == '.' || part.back() == '.' || part.front() == '-' ||
        part.find("--") != std::string::npos || part.find("..") != std::string::npos)
      return false;
    if (!std::all_of(part.begin(), part.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; }))
      return false;
  }
  return true;
}

fs::path resolve_model(const std::string& name, const std::string& revision, const ResolveOptions& options) {
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) return name;
  if (!is_hub_name(name)) {
    throw UserError(options.key,
                    "there is no folder '" + name + "', and it is no name on the Hub: expected a model's folder or 'org/name'",
                    "check the path; relative paths start at the current folder");
  }
  const std::string wanted = revision.empty() ? "main" : revision;
  if (!is_safe_relative_path(wanted))
    throw UserError("model.model_revision", "expected a branch, tag or commit, got '" + wanted + "'");
  const HubSettings settings = hub_settings_from_environment();
  Repository repository(name, wanted, options.key, settings);

  const std::optional<std::string> cached = repository.cache().commit_of(wanted);
  const bool complete = cached && repository.cache().is_complete(*cached, options.files);
  if (complete && (settings.offline || is_commit_hash(wanted))) return repository.cache().snapshot(*cached);
  if (settings.offline) {
    throw EnvironmentError(options.key,
                           not_cached(name, wanted, settings.cache) + ", and HF_HUB_OFFLINE forbids to download it",
                           "unset HF_HUB_OFFLINE, or give a local folder, or set HF_HOME to a cache that has it");
  }
  try {
    return repository.download(options.files);
  } catch (const TransferFailure& failure) {
    if (complete) {
      notify(
          {.notice = cat(settings.endpoint, " cannot be reached (", failure.what(), "); using what the cache has of ", name)});
      return repository.cache().snapshot(*cached);
    }
    throw EnvironmentError(
        options.key,
        cat("'", name, "' is no local folder and cannot be downloaded from ", settings.endpoint, ": ", failure.what()),
        "check the network, HF_ENDPOINT and proxies; or give a local folder");
  }
}

}  // namespace oumi
