#include "oumi/distributed/rank_layout.h"

#include <gmock/gmock.h>

#include <map>

#include "oumi/base/error.h"

namespace oumi {
namespace {

RankLayout read(const std::map<std::string, std::string>& variables) {
  return read_rank_layout([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

std::string error_of(const std::map<std::string, std::string>& variables) {
  try {
    read(variables);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RankLayout, IsOneProcessWithoutVariables) {
  EXPECT_EQ(read({}).world_size, 1);
  // A Slurm batch script is no job step.
  EXPECT_EQ(read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).world_size, 1);
}

TEST(RankLayout, ReadsTorchrun) {
  const RankLayout layout = read({{"RANK", "3"},
                                  {"WORLD_SIZE", "4"},
                                  {"LOCAL_RANK", "1"},
                                  {"LOCAL_WORLD_SIZE", "2"},
                                  {"MASTER_ADDR", "node0"},
                                  {"MASTER_PORT", "1234"},
                                  {"TORCHELASTIC_RESTART_COUNT", "2"},
                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                  {"SLURM_PROCID", "7"},
                                  {"SLURM_NTASKS", "8"},
                                  {"SLURM_STEP_ID", "0"}});
  EXPECT_EQ(layout.rank, 3);
  EXPECT_EQ(layout.world_size, 4);
  EXPECT_EQ(layout.local_rank, 1);
  EXPECT_EQ(layout.local_world_size, 2);
  EXPECT_EQ(layout.master_addr, "node0");
  EXPECT_EQ(layout.master_port, 1234);
  EXPECT_EQ(layout.attempt, "2");
  EXPECT_TRUE(layout.store_is_external);
}

TEST(RankLayout, ReadsPyTorchJob) {
  // The training operator sets no LOCAL_RANK: each pod runs one process.
  const RankLayout layout =
      read({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-master-0"}, {"MASTER_PORT", "23456"}});
  EXPECT_EQ(layout.local_rank, 0);
  EXPECT_FALSE(layout.store_is_external);
}

TEST(RankLayout, ReadsMpi) {
  const RankLayout layout = read({{"OMPI_COMM_WORLD_RANK", "1"},
                                  {"OMPI_COMM_WORLD_SIZE", "2"},
                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(layout.rank, 1);
  EXPECT_EQ(layout.master_addr, "127.0.0.1");
  EXPECT_THAT(error_of({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}),
              testing::HasSubstr("[MASTER_ADDR]"));
  EXPECT_EQ(read({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}, {"MPI_LOCALRANKID", "1"}}).local_rank, 1);
}

TEST(RankLayout, ReadsSlurm) {
  const RankLayout layout = read({{"SLURM_PROCID", "5"},
                                  {"SLURM_NTASKS", "8"},
                                  {"SLURM_LOCALID", "1"},
                                  {"SLURM_STEP_ID", "0"},
                                  {"SLURM_JOB_ID", "41234"},
                                  {"SLURM_STEP_NODELIST", "gpu[07-09,12],cpu1"}});
  EXPECT_EQ(layout.rank, 5);
  EXPECT_EQ(layout.master_addr, "gpu07");
  EXPECT_EQ(layout.master_port, 20000 + 41234 % 20000);
}

TEST(RankLayout, KnowsSlurmsHostLists) {
  EXPECT_EQ(first_slurm_host("node1"), "node1");
  EXPECT_EQ(first_slurm_host("node1,node2"), "node1");
  EXPECT_EQ(first_slurm_host("rack[3,5]-node"), "rack3-node");
  EXPECT_EQ(first_slurm_host("a,b[1-2]"), "a");
}

TEST(RankLayout, NamesTheVariableThatIsWrong) {
  EXPECT_THAT(error_of({{"RANK", "0"}}), testing::HasSubstr("[WORLD_SIZE]"));
  EXPECT_THAT(error_of({{"RANK", "x"}, {"WORLD_SIZE", "2"}}), testing::HasSubstr("[RANK]"));
  EXPECT_THAT(error_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), testing::HasSubstr("below WORLD_SIZE 2"));
  EXPECT_THAT(error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "99999"}}),
              testing::HasSubstr("[MASTER_PORT]"));
}

}  // namespace
}  // namespace oumi
