#include "oumi/telemetry/run_files.h"

#include <sched.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace fs = std::filesystem;

namespace {

// The first line of a file, or "" when it cannot be read.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return trim(line);
}

std::string operating_system() {
  std::ifstream file("/etc/os-release");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("PRETTY_NAME=")) continue;
    std::string name = line.substr(12);
    std::erase(name, '"');
    return name;
  }
  return "Linux";
}

// What decides about speed and, through the choice of kernels, about the last bits of results.
bool matters(const std::string& flag) {
  static const std::set<std::string> kFlags = {"sse4_2",   "avx",      "avx2",     "fma",         "f16c",        "avx512f",
                                               "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16", "avx512_fp16",
                                               "avx_vnni", "amx_tile", "amx_bf16", "amx_int8",    "asimd",       "sve",
                                               "sve2",     "bf16",     "i8mm"};
  return kFlags.contains(flag);
}

Json cpu_info() {
  Json cpu = {{"model", nullptr},   {"sockets", nullptr},        {"cores", nullptr},
              {"threads", nullptr}, {"usable_threads", nullptr}, {"features", Json::array()}};
  std::ifstream file("/proc/cpuinfo");
  std::set<std::string> sockets;
  std::set<std::pair<std::string, std::string>> cores;
  std::string socket;
  std::int64_t threads = 0;
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = trim(line.substr(0, colon)), value = trim(line.substr(colon + 1));
    if (key == "processor") ++threads;
    if (key == "model name" && cpu["model"].is_null()) cpu["model"] = value;
    if (key == "physical id") sockets.insert(socket = value);
    if (key == "core id") cores.emplace(socket, value);
    if ((key == "flags" || key == "Features") && cpu["features"].empty()) {
      std::istringstream flags(value);
      for (std::string flag; flags >> flag;) {
        if (matters(flag)) cpu["features"].push_back(flag);
      }
    }
  }
  if (!sockets.empty()) cpu["sockets"] = sockets.size();
  if (!cores.empty()) cpu["cores"] = cores.size();
  if (threads > 0) cpu["threads"] = threads;

  cpu_set_t usable;
  CPU_ZERO(&usable);
  if (::sched_getaffinity(0, sizeof(usable), &usable) == 0) {
    std::int64_t count = CPU_COUNT(&usable);
    // cgroup v2: "quota period" in microseconds, or "max period".
    std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
    double allowed = 0, period = 0;
    if (quota >> allowed >> period && allowed > 0 && period > 0) {
      count = std::min(count, std::max<std::int64_t>(static_cast<std::int64_t>(allowed / period + 0.5), 1));
    }
    cpu["usable_threads"] = count;
  }
  return cpu;
}

Json memory_info() {
  Json memory = {{"total_bytes", nullptr}, {"available_bytes", nullptr}, {"limit_bytes", nullptr}};
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t kibibytes = 0;
    if (!(words >> name >> kibibytes)) continue;
    if (name == "MemTotal:") memory["total_bytes"] = kibibytes * 1024;
    if (name == "MemAvailable:") memory["available_bytes"] = kibibytes * 1024;
  }
  std::istringstream limit(first_line("/sys/fs/cgroup/memory.max"));
  std::uint64_t bytes = 0;
  if (limit >> bytes) memory["limit_bytes"] = bytes;
  return memory;
}

Json variables() {
  Json values = Json::object();
  for (const char* name :
       {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "GOMP_CPU_AFFINITY", "LD_PRELOAD",
        "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NCCL_DEBUG", "RANK",
        "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "HF_HOME", "HF_HUB_OFFLINE"}) {
    const char* value = std::getenv(name);
    values[name] = value == nullptr ? Json(nullptr) : Json(value);
  }
  return values;
}

std::string text_of(const Json& value) {
  if (value.is_null()) return "not known";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string devices_text(const Json& environment) {
  const Json& cpu = environment.at("cpu");
  return cat("CPU: ", text_of(cpu.at("model")), "\ncores: ", text_of(cpu.at("cores")),
             ", threads: ", text_of(cpu.at("threads")), ", usable threads: ", text_of(cpu.at("usable_threads")),
             "\naccelerators: none\n");
}

}  // namespace

Json environment_info(const EnvironmentQuery& query) {
  Json info = Json::object();
  if (!query.oumi_version.empty()) info["oumi_version"] = query.oumi_version;
  info["os"] = operating_system();
  utsname kernel{};
  info["kernel"] = ::uname(&kernel) == 0 ? Json(cat(kernel.sysname, " ", kernel.release, " ", kernel.machine)) : Json(nullptr);
  if (query.hostname) info["hostname"] = kernel.nodename;
  info["cpu"] = cpu_info();
  info["memory"] = memory_info();
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "g++ " __VERSION__;
#endif
#ifdef NDEBUG
  info["build_type"] = "optimized";
#else
  info["build_type"] = "with assertions";
#endif
  info["libraries"] = Json::object();
  for (const auto& [name, version] : query.libraries) info["libraries"][name] = version;
  info["variables"] = variables();
  return info;
}

std::string environment_text(const Json& environment) {
  std::vector<std::pair<std::string, std::string>> rows;
  const auto row = [&](const char* title, const Json& value) { rows.emplace_back(title, text_of(value)); };
  const auto bytes = [](const Json& value) {
    return value.is_null() ? Json("not limited") : Json(format_bytes(value.get<std::uint64_t>()));
  };
  if (environment.contains("oumi_version")) row("oumi.cpp", environment["oumi_version"]);
  row("operating system", environment.at("os"));
  row("kernel", environment.at("kernel"));
  if (environment.contains("hostname")) row("host", environment["hostname"]);
  const Json& cpu = environment.at("cpu");
  row("CPU", cpu.at("model"));
  rows.emplace_back("cores", cat(text_of(cpu.at("cores")), " cores, ", text_of(cpu.at("threads")), " threads, ",
                                 text_of(cpu.at("usable_threads")), " usable"));
  std::vector<std::string> features;
  for (const Json& feature : cpu.at("features")) features.push_back(feature.get<std::string>());
  rows.emplace_back("CPU features", features.empty() ? "none that matter" : join(features, " "));
  const Json& memory = environment.at("memory");
  rows.emplace_back("memory", cat(text_of(bytes(memory.at("total_bytes"))), ", ", text_of(bytes(memory.at("available_bytes"))),
                                  " available"));
  row("memory limit", bytes(memory.at("limit_bytes")));
  row("compiler", environment.at("compiler"));
  row("build", environment.at("build_type"));
  for (const auto& [name, version] : environment.at("libraries").items()) rows.emplace_back(name, text_of(version));
  for (const auto& [name, value] : environment.at("variables").items()) {
    if (!value.is_null()) rows.emplace_back(name, text_of(value));
  }
  std::size_t widest = 0;
  for (const auto& [title, value] : rows) widest = std::max(widest, title.size());
  std::string text;
  for (const auto& [title, value] : rows) text += cat(title, std::string(widest - title.size() + 2, ' '), value, "\n");
  return text;
}

void write_run_files(const fs::path& directory, const RunFiles& files) {
  make_directories(directory);
  write_file_atomically(directory / "training_config.yaml", files.training_config_yaml);
  const Json environment = files.environment.is_null() ? environment_info() : files.environment;
  write_file_atomically(directory / "environment.json", environment.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_file_atomically(directory / "devices_info.txt",
                        files.devices_info.empty() ? devices_text(environment) : files.devices_info);
  const Json world = {{"LOCAL_WORLD_SIZE", files.local_world_size}, {"WORLD_SIZE", files.world_size}};
  write_file_atomically(directory / "world_size.json", world.dump(2) + "\n");
}

}  // namespace oumi
