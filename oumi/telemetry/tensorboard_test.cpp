#include "oumi/telemetry/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/telemetry/tensorboard_encoding.h"

namespace oumi {
namespace {

std::string to_hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<unsigned char>(c));
    hex += digits;
  }
  return hex;
}

Json golden() {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return read_json_file(std::filesystem::path(root == nullptr ? "." : root) / "tests/golden/tensorboard_events.json");
}

// Payloads of a file of records; fails the test on a wrong checksum or a torn record.
std::vector<std::string> read_records(const std::string& bytes) {
  std::vector<std::string> payloads;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t length = 0;
    std::uint32_t crc = 0;
    if (bytes.size() - at < 16) ADD_FAILURE() << "torn record at " << at;
    if (bytes.size() - at < 16) break;
    std::memcpy(&length, bytes.data() + at, 8);
    std::memcpy(&crc, bytes.data() + at + 8, 4);
    EXPECT_EQ(crc, masked_crc32c(std::string_view(bytes).substr(at, 8)));
    payloads.push_back(bytes.substr(at + 12, length));
    std::memcpy(&crc, bytes.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, masked_crc32c(payloads.back()));
    at += 16 + length;
  }
  return payloads;
}

TEST(Crc32cTest, AgreesWithRfc3720) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  falling.assign(rising.rbegin(), rising.rend());
  EXPECT_EQ(crc32c(rising), 0x46DD794EU);
  EXPECT_EQ(crc32c(falling), 0x113FDB5CU);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(TensorBoardTest, TagsAreThoseOfHuggingFace) {
  EXPECT_EQ(tensorboard_tag("loss"), "train/loss");
  EXPECT_EQ(tensorboard_tag("eval_loss"), "eval/loss");
  EXPECT_EQ(tensorboard_tag("test_accuracy"), "test/accuracy");
  EXPECT_EQ(tensorboard_tag("train_runtime"), "train/train_runtime");
  EXPECT_EQ(tensorboard_tag("eval_"), "train/eval_");
  EXPECT_EQ(tensorboard_tag("evaluation"), "train/evaluation");
}

TEST(TensorBoardTest, EventsHaveTheBytesOfTensorBoardsOwnClasses) {
  const Json expected = golden();
  const double time = expected["wall_time"].get<double>();
  EXPECT_EQ(to_hex(encode_file_version(time)), expected["version"]);
  EXPECT_EQ(to_hex(encode_session_start(time, 101)), expected["session"]);
  const std::string scalars =
      encode_scalars(time, 7, {{"train/loss", 0.25}, {"eval/loss", std::numeric_limits<double>::infinity()}});
  EXPECT_EQ(to_hex(scalars), expected["scalars"]);
  EXPECT_EQ(to_hex(frame_tfrecord(scalars)), expected["framed_scalars"]);
  EXPECT_EQ(to_hex(encode_text(time, 0, "config", "a: 1 \xC3\xBC")), expected["text"]);
}

TEST(TensorBoardTest, HistogramOfNothingFiniteIsNoEvent) {
  const std::vector<float> values = {std::nanf(""), INFINITY};
  EXPECT_EQ(encode_histogram(0, 1, "w", values), "");
  EXPECT_EQ(encode_histogram(0, 1, "w", {}), "");
}

TEST(TensorBoardTest, HistogramTakesExtremeValues) {
  const std::vector<float> values = {
      0, -0.0F, 1e-30F, -1e-30F, std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(), std::nanf("")};
  EXPECT_FALSE(encode_histogram(0, 1, "w", values).empty());
}

TEST(TensorBoardTest, FileHoldsWholeRecordsInOrder) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.path() / "a" / "tensorboard");
  RunInfo run;
  run.config_yaml = "text: |\n  ```\n  fenced\n  ```\n";
  writer.on_run_begin(run);
  writer.on_log({10, 0.5, {{"loss", 0.25}, {"step", 1}}});
  writer.on_run_end();
  EXPECT_THAT(writer.path().filename().string(), testing::StartsWith("events.out.tfevents."));
  const auto records = read_records(read_text_file(writer.path()));
  ASSERT_EQ(records.size(), 3U);
  EXPECT_THAT(records[0], testing::HasSubstr("brain.Event:2"));
  EXPECT_THAT(records[1], testing::HasSubstr("````yaml\ntext: |"));
  EXPECT_THAT(records[2], testing::AllOf(testing::HasSubstr("train/loss"), testing::HasSubstr("train/epoch"),
                                         testing::Not(testing::HasSubstr("train/step"))));
}

TEST(TensorBoardTest, ResumedRunPurgesLaterStepsOfEarlierFiles) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.path());
  RunInfo run;
  run.start_step = 100;
  writer.on_run_begin(run);
  const auto records = read_records(read_text_file(writer.path()));
  ASSERT_EQ(records.size(), 2U);
  // After the 9 bytes of the time: field 2 (step) = 101, field 7 (session_log) = {status: START}.
  EXPECT_EQ(to_hex(records[1].substr(9)), "10653a020801");
}

TEST(TensorBoardTest, RunThatStartsOverPurgesAllStepsOfEarlierFiles) {
  const TemporaryDirectory directory;
  TensorBoardWriter writer(directory.path());
  RunInfo run;
  run.starts_over = true;
  writer.on_run_begin(run);
  const auto records = read_records(read_text_file(writer.path()));
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(to_hex(records[1].substr(9)), "3a020801");  // no field 2: step 0
}

TEST(TensorBoardTest, TwoWritersInOneFolderUseTwoFiles) {
  const TemporaryDirectory directory;
  const TensorBoardWriter first(directory.path()), second(directory.path());
  EXPECT_NE(first.path(), second.path());
}

TEST(TensorBoardTest, InvalidUtf8IsReplacedNotRefused) {
  EXPECT_THAT(encode_scalars(0, 1, {{"bad \xff\xed\xa0\x80", 1}}), testing::HasSubstr("bad \xEF\xBF\xBD"));
}

TEST(TensorBoardTest, FolderThatIsAFileIsAnEnvironmentError) {
  const TemporaryDirectory directory;
  write_file_atomically(directory.path() / "file", "");
  EXPECT_THROW(TensorBoardWriter(directory.path() / "file"), EnvironmentError);
}

}  // namespace
}  // namespace oumi
