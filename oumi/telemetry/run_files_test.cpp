#include "oumi/telemetry/run_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/telemetry/events.h"
#include "oumi/telemetry/logging.h"

namespace oumi {
namespace {

using testing::HasSubstr;

TEST(EnvironmentTest, TellsAboutThisMachine) {
  ::setenv("OMP_NUM_THREADS", "3", 1);
  const Json info = environment_info({.oumi_version = "1.2.3", .libraries = {{"LibTorch", "2.11.0"}}, .hostname = false});
  EXPECT_EQ(info["oumi_version"], "1.2.3");
  EXPECT_EQ(info["libraries"]["LibTorch"], "2.11.0");
  EXPECT_EQ(info["variables"]["OMP_NUM_THREADS"], "3");
  EXPECT_FALSE(info.contains("hostname"));
  EXPECT_GE(info["cpu"]["usable_threads"].get<int>(), 1);
  EXPECT_LE(info["cpu"]["usable_threads"].get<unsigned>(), std::max(1U, std::thread::hardware_concurrency()));
  EXPECT_GT(info["memory"]["total_bytes"].get<std::uint64_t>(), 1U << 20);
  const std::string text = environment_text(info);
  EXPECT_THAT(text, testing::AllOf(HasSubstr("oumi.cpp          1.2.3\n"), HasSubstr("LibTorch          2.11.0\n"),
                                   HasSubstr("OMP_NUM_THREADS   3\n")));
  ::unsetenv("OMP_NUM_THREADS");
}

TEST(RunFilesTest, WritesTheFour) {
  const TemporaryDirectory directory;
  const auto telemetry = directory.path() / "out" / "telemetry";
  write_run_files(telemetry, {.training_config_yaml = "a: 1\n", .world_size = 4, .local_world_size = 2});
  EXPECT_EQ(read_text_file(telemetry / "training_config.yaml"), "a: 1\n");
  EXPECT_EQ(read_json_file(telemetry / "world_size.json"), Json::parse(R"({"LOCAL_WORLD_SIZE": 2, "WORLD_SIZE": 4})"));
  EXPECT_TRUE(read_json_file(telemetry / "environment.json").contains("cpu"));
  EXPECT_THAT(read_text_file(telemetry / "devices_info.txt"), HasSubstr("CPU: "));
}

class LoggingTest : public testing::Test {
 protected:
  ~LoggingTest() override { shutdown_logging(); }
  TemporaryDirectory directory_;
  std::string file() const { return read_text_file(directory_.path() / "logs" / "rank_0000.log"); }
};

TEST_F(LoggingTest, WritesFileAndTerminalByLevelAndAppends) {
  testing::internal::CaptureStderr();
  init_logging({.directory = directory_.path() / "logs", .level = LogLevel::kInfo});
  log_debug("hidden");
  log_info("shown {} %s");
  log_warning("careful \x1b[2J");
  log_to_file(LogLevel::kInfo, "only here");
  init_logging({.directory = directory_.path() / "logs", .level = LogLevel::kError});
  log_warning("hidden");
  log_error("broken");
  const std::string terminal = testing::internal::GetCapturedStderr();
  EXPECT_EQ(terminal, "shown {} %s\nwarning: careful \\x1b[2J\nerror: broken\n");
  EXPECT_THAT(file(), testing::AllOf(HasSubstr("[rank 0] [info] shown {} %s\n"), HasSubstr("[info] only here\n"),
                                     HasSubstr("[error] broken\n"), testing::Not(HasSubstr("hidden"))));
}

TEST_F(LoggingTest, BeforeInitWarningsGoToTheTerminal) {
  testing::internal::CaptureStderr();
  log_info("quiet");
  log_warning("loud");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "warning: loud\n");
}

TEST_F(LoggingTest, ThreadsDoNotMixLines) {
  init_logging({.directory = directory_.path() / "logs", .level = LogLevel::kInfo, .console = false});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int i = 0; i < 200; ++i) log_info(std::string(100, 'x'));
    });
  for (std::thread& thread : threads) thread.join();
  std::size_t whole = 0;
  for (const std::string& line : {file()}) {
    for (std::size_t at = line.find("[info] " + std::string(100, 'x') + "\n"); at != std::string::npos;
         at = line.find("[info] " + std::string(100, 'x') + "\n", at + 1))
      ++whole;
  }
  EXPECT_EQ(whole, 800U);
}

TEST_F(LoggingTest, FolderThatIsAFileIsAnEnvironmentError) {
  write_file_atomically(directory_.path() / "logs", "");
  EXPECT_THROW(init_logging({.directory = directory_.path() / "logs"}), EnvironmentError);
}

TEST(LogLevelTest, ReadsNamesAndNamesTheKey) {
  EXPECT_EQ(parse_log_level("INFO"), LogLevel::kInfo);
  EXPECT_EQ(parse_log_level("passive"), LogLevel::kWarning);
  try {
    parse_log_level("warnig", "training.dep_log_level");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.component(), "training.dep_log_level");
    EXPECT_THAT(error.message(), HasSubstr("got 'warnig'"));
    EXPECT_THAT(error.hint(), HasSubstr("warning"));
  }
}

class ThrowingSink : public EventSink {
 public:
  explicit ThrowingSink(int& calls) : calls_(calls) {}
  void on_log(const LogRecord&) override {
    ++calls_;
    throw std::runtime_error("boom");
  }

 private:
  int& calls_;
};

TEST(EventHubTest, DropsASinkThatThrowsAndGoesOn) {
  int calls = 0;
  EventHub hub;
  hub.add(std::make_unique<ThrowingSink>(calls));
  testing::internal::CaptureStderr();
  hub.on_log({1, 0, {}});
  hub.on_log({2, 0, {}});
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("switched off: boom"));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(hub.size(), 0U);
}

TEST(EventHubTest, RanksGetTheirSinks) {
  const TemporaryDirectory directory;
  EXPECT_EQ(make_event_hub({.output_dir = directory.path() / "a", .rank = 1})->size(), 0U);
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "a"));
  EXPECT_EQ(make_event_hub({.output_dir = directory.path() / "a", .rank = 1, .metrics_on_all_ranks = true})->size(), 1U);
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "a" / "metrics_rank0001.jsonl"));
  make_event_hub({.output_dir = directory.path() / "b", .enable_tensorboard = false})->on_log({5, 0.5, {{"loss", 1}}});
  EXPECT_FALSE(std::filesystem::exists(directory.path() / "b" / "tensorboard"));
  EXPECT_EQ(read_text_file(directory.path() / "b" / "metrics_rank0000.jsonl"), "{\"step\": 5, \"epoch\": 0.5, \"loss\": 1}\n");
}

}  // namespace
}  // namespace oumi
