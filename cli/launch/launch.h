// oumi-cpp launch: starts the ranks of a run on this machine, watches them, and starts them again. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace oumi::cli {

struct LaunchOptions {
  std::int64_t nproc_per_node = 1;
  std::int64_t nnodes = 1;
  std::int64_t node_rank = 0;
  std::string rdzv_endpoint;  // host:port of node 0; needed with several nodes
  std::int64_t max_restarts = 0;
  std::vector<std::string> command;  // "train", "-c", "config.yaml", ...
};

// Runs `oumi-cpp COMMAND` once for each rank, with RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT
// in its environment, and OMP_NUM_THREADS where it is unset. Output comes line by line with "[rank 3] " before it. When a rank
// fails, the others are stopped; with restarts left (and not for the user's own mistakes, exit code 2) all are started again
// from the last good checkpoint. SIGINT and SIGTERM are handed on. Returns the exit code: that of the first rank to fail.
int launch(const LaunchOptions& options);

}  // namespace oumi::cli
