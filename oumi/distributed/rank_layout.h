// Which process of how many this is, read from what the program that started it has set. No torch here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace oumi {

// One process of a run. Ranks number all processes of the run, local ranks those of one machine.
struct RankLayout {
  std::int64_t rank = 0;
  std::int64_t world_size = 1;
  std::int64_t local_rank = 0;
  std::int64_t local_world_size = 1;
  std::string master_addr = "127.0.0.1";  // where rank 0 listens
  std::int64_t master_port = 29500;
  bool store_is_external = false;  // the starter itself listens there (torchrun); rank 0 connects like any other rank
  std::string attempt = "0";       // differs between restarts, so that processes of two attempts never meet
  std::string origin = "none";     // "torchrun or launch", "Slurm", "Open MPI", "MPICH"
};

// Reads, in this order: RANK and WORLD_SIZE (oumi-cpp launch, torchrun, Kubernetes' PyTorchJob), OMPI_COMM_WORLD_* (Open MPI's
// mpirun), PMI_RANK and PMI_SIZE (MPICH, Intel MPI), SLURM_PROCID and SLURM_NTASKS of a job step (srun). None of them: one
// process. MASTER_ADDR and MASTER_PORT win over what Slurm's node list says; the port then defaults to 20000 + job id % 20000.
// Throws UserError naming the variable that is missing or has a bad value.
RankLayout read_rank_layout();

// The same over other variables, for tests; `get` returns "" for one that is not set.
RankLayout read_rank_layout(const std::function<std::string(const char*)>& get);

// First host of a Slurm node list: "gpu[07-09,12],cpu1" is gpu07.
std::string first_slurm_host(const std::string& node_list);

}  // namespace oumi
