#include "oumi/text/bridge.h"

#include <dlfcn.h>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi::text {
namespace {

constexpr const char* kLibrary = "liboumi_bridge.so";
constexpr const char* kHint =
    "install Rust (https://rustup.rs, or Debian's cargo if it is new enough) and run make build again; only tokenizers and "
    "chat templates need it";

// Found through the run path of the library or program that this is compiled into. Never closed: its threads may outlive any
// caller.
void* open_library() noexcept {
  static void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  return library;
}

template <class Function>
void load(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    throw EnvironmentError(kLibrary, cat("has no ", name, ": it belongs to another version"), "run make build again");
}

Bridge load_bridge() {
  void* library = open_library();
  if (library == nullptr) {
    const char* reason = dlerror();
    throw EnvironmentError(
        kLibrary, cat("tokenizers and chat templates were not built", reason != nullptr ? cat(" (", reason, ")") : ""), kHint);
  }
  Bridge bridge;
#define OUMI_BRIDGE_LOAD(name) load(library, "oumi_bridge_" #name, bridge.name);
  OUMI_BRIDGE_FUNCTIONS(OUMI_BRIDGE_LOAD)
#undef OUMI_BRIDGE_LOAD
  if (const std::uint32_t abi = bridge.abi(); abi != OUMI_BRIDGE_ABI) {
    throw EnvironmentError(kLibrary, cat("ABI: expected ", OUMI_BRIDGE_ABI, ", got ", abi), "run make build again");
  }
  return bridge;
}

}  // namespace

const Bridge& bridge() {
  static const Bridge kBridge = load_bridge();
  return kBridge;
}

bool bridge_available() noexcept { return open_library() != nullptr; }

BridgeBuffer::~BridgeBuffer() {
  if (buffer_.data != nullptr) bridge().release(buffer_);
}

void check_bridge(std::int32_t status, const BridgeBuffer& message, const std::string& component, const std::string& what,
                  const std::string& hint) {
  if (status == OUMI_BRIDGE_OK) return;
  if (status == OUMI_BRIDGE_BUG) throw InternalError(cat("[", component, "] ", what, ": ", message.view()));
  throw UserError(component, what.empty() ? message.text() : cat(what, ": ", message.view()), hint);
}

}  // namespace oumi::text
