// Where the Hub and its cache are: the environment variables that huggingface_hub reads.
#pragma once

#include <filesystem>
#include <string>

namespace oumi {

struct HubSettings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT, without a trailing slash
  std::string token;                                // HF_TOKEN, else the file that `hf auth login` writes; empty: anonymous
  std::filesystem::path cache;                      // HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub
  bool offline = false;                             // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE
  double connect_timeout = 10;                      // seconds; HF_HUB_ETAG_TIMEOUT
  double stall_timeout = 10;                        // seconds without a byte; HF_HUB_DOWNLOAD_TIMEOUT
  std::string ca_bundle;                            // CURL_CA_BUNDLE or REQUESTS_CA_BUNDLE; empty: the system's
};

// Reads the environment. Throws UserError naming the variable whose value makes no sense.
HubSettings hub_settings_from_environment();

}  // namespace oumi
