// A model's name -> a folder with its files: a local folder, the shared Hugging Face cache, or the Hub.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "oumi/hub/repository_files.h"

namespace oumi {

struct ResolveOptions {
  HubFiles files = HubFiles::kModel;
  std::string key = "model.model_name";  // the config key that named it, for errors
};

// A folder is returned as it is. Otherwise `name` is "org/name" (or "name") on the Hub at `revision` (branch, tag or commit;
// empty: main), and its snapshot folder in the cache is returned, after what is missing there was downloaded. One small request
// is made unless `revision` is a commit that is whole in the cache, or HF_HUB_OFFLINE is set; where the network is away, what
// the cache has is used, with a notice. Throws UserError (no such name or revision, gated) and EnvironmentError (network, disk,
// wrong hash, offline).
std::filesystem::path resolve_model(const std::string& name, const std::string& revision = "",
                                    const ResolveOptions& options = {});

// True for what could be a repository on the Hub: "name" or "org/name".
bool is_hub_name(const std::string& name);

// What happens during a download, for whoever shows it.
struct HubEvent {
  std::string file = {};   // empty for a notice
  std::uint64_t done = 0;  // bytes
  std::uint64_t total = 0;
  std::string notice = {};
};

// Called from resolve_model, on its thread; one for the process. Empty: silence.
void set_hub_listener(std::function<void(const HubEvent&)> listener);

}  // namespace oumi
