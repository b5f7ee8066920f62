#include "oumi/distributed/rank_layout.h"

#include <charconv>
#include <cstdlib>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

using Get = std::function<std::string(const char*)>;

// A `fallback` below `lowest`: the variable has to be set.
std::int64_t read_number(const Get& get, const char* name, std::int64_t lowest, std::int64_t fallback) {
  const std::string text = get(name);
  if (text.empty() && fallback >= lowest) return fallback;
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size() || value < lowest) {
    throw UserError(name, cat("expected a number of ", lowest, " or more in the environment, got '", text, "'"),
                    "the program that starts the ranks sets it; unset RANK and WORLD_SIZE to train in one process");
  }
  return value;
}

// Names of one starter's variables.
struct Names {
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
  const char* origin;
};

constexpr Names kTorch{"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "torchrun or launch"};
constexpr Names kOpenMpi{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                         "OMPI_COMM_WORLD_LOCAL_SIZE", "Open MPI"};
constexpr Names kMpich{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "MPICH"};
constexpr Names kSlurm{"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "Slurm"};

RankLayout read_names(const Get& get, const Names& names) {
  RankLayout layout;
  layout.origin = names.origin;
  layout.rank = read_number(get, names.rank, 0, -1);
  layout.world_size = read_number(get, names.world_size, 1, 0);
  if (layout.rank >= layout.world_size) {
    throw UserError(names.rank, cat("expected a rank below ", names.world_size, " ", layout.world_size, ", got ", layout.rank));
  }
  // PyTorchJob runs one process a pod and sets no local rank.
  layout.local_rank = read_number(get, names.local_rank, 0, 0);
  layout.local_world_size = read_number(get, names.local_world_size, 1, 1);
  return layout;
}

}  // namespace

std::string first_slurm_host(const std::string& node_list) {
  const auto bracket = node_list.find('[');
  const auto comma = node_list.find(',');
  if (bracket == std::string::npos || comma < bracket) return node_list.substr(0, comma);
  const auto end = node_list.find_first_of(",-]", bracket + 1);
  const auto close = node_list.find(']', bracket);
  std::string suffix;
  if (close != std::string::npos) suffix = node_list.substr(close + 1, node_list.find(',', close) - close - 1);
  return node_list.substr(0, bracket) + node_list.substr(bracket + 1, end - bracket - 1) + suffix;
}

RankLayout read_rank_layout(const Get& get) {
  RankLayout layout;
  if (!get("RANK").empty() || !get("WORLD_SIZE").empty()) {
    layout = read_names(get, kTorch);
  } else if (!get("OMPI_COMM_WORLD_SIZE").empty()) {
    layout = read_names(get, kOpenMpi);
  } else if (!get("PMI_SIZE").empty()) {
    layout = read_names(get, kMpich);
  } else if (!get("SLURM_PROCID").empty() && !get("SLURM_STEP_ID").empty() && get("SLURM_STEP_ID") != "4294967291") {
    // A batch script has the variables too (its step is that number): there one process is meant.
    layout = read_names(get, kSlurm);
  } else {
    return layout;
  }
  layout.attempt = get("OUMI_RESTART_COUNT");
  if (layout.attempt.empty()) layout.attempt = get("TORCHELASTIC_RESTART_COUNT");
  if (layout.attempt.empty()) layout.attempt = "0";
  layout.store_is_external = to_lower(get("TORCHELASTIC_USE_AGENT_STORE")) == "true";
  if (layout.world_size == 1) return layout;

  std::string address = get("MASTER_ADDR");
  std::int64_t port = 29500;
  if (layout.origin == kSlurm.origin) {
    if (address.empty()) address = first_slurm_host(get("SLURM_STEP_NODELIST"));
    port = 20000 + read_number(get, "SLURM_JOB_ID", 0, 0) % 20000;
  }
  if (address.empty() && layout.local_world_size == layout.world_size) address = "127.0.0.1";
  if (address.empty()) {
    throw UserError("MASTER_ADDR", "expected the host of rank 0 in the environment, got nothing",
                    "set MASTER_ADDR and MASTER_PORT to where rank 0 can be reached");
  }
  layout.master_addr = address;
  layout.master_port = read_number(get, "MASTER_PORT", 1, port);
  if (layout.master_port > 65535) throw UserError("MASTER_PORT", cat("expected at most 65535, got ", layout.master_port));
  return layout;
}

RankLayout read_rank_layout() {
  return read_rank_layout([](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  });
}

}  // namespace oumi
