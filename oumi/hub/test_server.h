// tests/hub/server.py as a child process, and the environment that points at it.
#pragma once

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/hub/http.h"

namespace oumi {

class LoopbackHub {
 public:
  LoopbackHub() {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    std::string script = source_folder() + "/tests/hub/server.py", python = "python3";
    char* arguments[] = {python.data(), script.data(), nullptr};
    if (::posix_spawnp(&pid_, "python3", &actions, nullptr, arguments, environ) != 0) std::abort();
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    FILE* out = ::fdopen(ends[0], "r");
    int storage = 0;
    if (std::fscanf(out, "%d %d", &port_, &storage) != 2) port_ = 0;
    std::fclose(out);
  }
  ~LoopbackHub() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void set(const std::string& query) const { get("/_set?" + query); }
  Json log() const { return Json::parse(get("/_log")); }

 private:
  static std::string source_folder() {
    const char* folder = std::getenv("OUMI_SOURCE_DIR");
    return folder == nullptr ? "." : folder;
  }
  std::string get(const std::string& path) const { return HttpClient({.endpoint = endpoint()}).get(endpoint() + path).body; }

  pid_t pid_ = -1;
  int port_ = 0;
};

}  // namespace oumi
