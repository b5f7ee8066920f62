#include "oumi/hub/settings.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : trim(value);
}

bool is_set(const char* name) {
  const std::string value = to_lower(variable(name));
  return value == "1" || value == "true" || value == "yes" || value == "on";
}

fs::path expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return fs::path(variable("HOME")) / fs::path(path).lexically_relative("~");
}

fs::path hf_home() {
  if (const std::string home = variable("HF_HOME"); !home.empty()) return expand_home(home);
  const std::string cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? expand_home("~/.cache") : expand_home(cache)) / "huggingface";
}

double seconds(const char* name, double fallback) {
  const std::string text = variable(name);
  if (text.empty()) return fallback;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != '\0' || !(value > 0) || !std::isfinite(value))
    throw UserError(name, "expected seconds above 0, got '" + text + "'", "correct the environment variable");
  return value;
}

std::string read_token() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (std::string token = variable(name); !token.empty()) return token;
  }
  const std::string path = variable("HF_TOKEN_PATH");
  const fs::path file = path.empty() ? hf_home() / "token" : expand_home(path);
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) ? trim(read_text_file(file)) : "";
}

}  // namespace

HubSettings hub_settings_from_environment() {
  HubSettings settings;
  if (std::string endpoint = variable("HF_ENDPOINT"); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://")) {
      throw UserError("HF_ENDPOINT", "expected an http or https address, got '" + endpoint + "'",
                      "correct the environment variable, or unset it");
    }
    settings.endpoint = endpoint;
  }
  settings.token = read_token();
  // It becomes a header line: anything but visible ASCII would break it.
  if (!std::all_of(settings.token.begin(), settings.token.end(), [](unsigned char c) { return c > 32 && c < 127; })) {
    throw UserError("HF_TOKEN", "expected a token of visible ASCII characters, got others",
                    "copy it again from your account's settings");
  }
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (settings.cache.empty() && !variable(name).empty()) settings.cache = expand_home(variable(name));
  }
  if (settings.cache.empty()) settings.cache = hf_home() / "hub";
  settings.offline = is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE");
  settings.connect_timeout = seconds("HF_HUB_ETAG_TIMEOUT", settings.connect_timeout);
  settings.stall_timeout = seconds("HF_HUB_DOWNLOAD_TIMEOUT", settings.stall_timeout);
  for (const char* name : {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}) {
    if (settings.ca_bundle.empty()) settings.ca_bundle = variable(name);
  }
  return settings;
}

}  // namespace oumi
