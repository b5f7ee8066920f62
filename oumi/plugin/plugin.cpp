#include "oumi/plugin/plugin.h"

#include <dlfcn.h>
#include <torch/version.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"

namespace oumi {
namespace fs = std::filesystem;
namespace {

std::vector<LoadedPlugin>& loaded() {
  static std::vector<LoadedPlugin> plugins;
  return plugins;
}

std::vector<std::string> listed_plugins() {
  const char* file = std::getenv("OUMI_EXTRA_DEPS_FILE");
  if (file == nullptr || *file == '\0') return {};
  std::vector<std::string> paths;
  int number = 0;
  for (const std::string& raw : split(read_text_file(file), '\n')) {
    ++number;
    const std::string line = trim(raw);
    if (line.empty() || line.front() == '#') continue;
    if (!fs::path(line).is_absolute()) {
      throw UserError(cat(file, ":", number), "expected the absolute path of a plug-in, got '" + line + "'");
    }
    paths.push_back(line);
  }
  return paths;
}

void load(const std::string& path) {
  if (!fs::is_regular_file(path)) throw UserError(path, "there is no such plug-in", "build it first, and check the path");
  const std::string absolute = fs::canonical(path).string();
  for (const LoadedPlugin& plugin : loaded()) {
    if (plugin.path == absolute) return;
  }
  void* library = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    throw UserError(path, std::string("cannot be loaded: ") + dlerror(), "build the plug-in against this oumi and LibTorch");
  auto* entry = reinterpret_cast<void (*)(PluginAbi*, bool)>(dlsym(library, "oumi_plugin"));
  if (entry == nullptr)
    throw UserError(path, "is no oumi plug-in: expected a function oumi_plugin, found none",
                    "add OUMI_PLUGIN { ... } to one source file");
  PluginAbi abi{};
  entry(&abi, /*register_all=*/false);
  const PluginAbi host = host_plugin_abi();
  for (const auto& [what, theirs, ours] :
       {std::tuple("oumi", abi.oumi_version, host.oumi_version), std::tuple("LibTorch", abi.torch_version, host.torch_version),
        std::tuple("compiler", abi.compiler, host.compiler)}) {
    if (std::string(theirs) != ours)
      throw UserError(path, cat("was built against another ", what, ": expected ", ours, ", got ", theirs), "build it again");
  }
  entry(&abi, /*register_all=*/true);
  loaded().push_back({absolute, hash_file(absolute)});
}

}  // namespace

PluginAbi host_plugin_abi() { return {kVersion, TORCH_VERSION, __VERSION__}; }

const std::vector<LoadedPlugin>& loaded_plugins() { return loaded(); }

std::vector<LoadedPlugin> load_plugins(const std::vector<std::string>& paths) {
  for (const std::string& path : listed_plugins()) load(path);
  for (const std::string& path : paths) load(path);
  return loaded();
}

}  // namespace oumi
