// Out-of-tree code: shared libraries that add models, datasets, collators, optimizers and metrics.
//
// A plug-in says OUMI_PLUGIN { oumi::register_model<MyModel>(); } once. That exports one C function with what the library was
// built against; the host compares it before anything of the library runs. Plug-ins are never unloaded.
#pragma once

#include <string>
#include <vector>

#include <torch/version.h>

#include "oumi/base/version.h"

namespace oumi {

// What a plug-in and its host must agree on.
struct PluginAbi {
  const char* oumi_version;
  const char* torch_version;
  const char* compiler;
};

struct LoadedPlugin {
  std::string path;  // absolute
  std::string hash;  // of the file
};

// Loads each library and those that the file named by OUMI_EXTRA_DEPS_FILE lists (one absolute path a line, # for comments).
// A library given twice is loaded once. Throws UserError naming the library and what does not fit.
std::vector<LoadedPlugin> load_plugins(const std::vector<std::string>& paths);

// All that were loaded so far.
const std::vector<LoadedPlugin>& loaded_plugins();

// Of this build.
PluginAbi host_plugin_abi();

}  // namespace oumi

// Compiled into the plug-in, so the macros give its own versions.
#define OUMI_PLUGIN                                                                                               \
  static void oumi_plugin_register_all();                                                                         \
  extern "C" __attribute__((visibility("default"))) void oumi_plugin(::oumi::PluginAbi* abi, bool register_all) { \
    *abi = {::oumi::kVersion, TORCH_VERSION, __VERSION__};                                                        \
    if (register_all) oumi_plugin_register_all();                                                                 \
  }                                                                                                               \
  static void oumi_plugin_register_all()
