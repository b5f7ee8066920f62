#include "oumi/telemetry/metrics_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <random>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"

namespace oumi {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class MetricsFileTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  std::filesystem::path path_ = metrics_path(directory_.path());

  void write_text(const std::string& text) { write_file_atomically(path_, text); }
  std::string text() const { return read_text_file(path_); }
};

TEST_F(MetricsFileTest, PathHasFourDigitsOrMore) {
  EXPECT_EQ(metrics_path("out", 0), "out/metrics_rank0000.jsonl");
  EXPECT_EQ(metrics_path("out", 12345), "out/metrics_rank12345.jsonl");
}

TEST_F(MetricsFileTest, WritesOneObjectALine) {
  MetricsFile file(path_);
  file.on_log({10, 0.5, {{"loss", 0.1}, {"learning_rate", 5e-05}}});
  file.on_eval({10, 0.5, {{"eval_accuracy", 0.9125}}});
  file.on_summary({20, 1, {{"train_runtime", 12}}});
  EXPECT_EQ(text(),
            "{\"step\": 10, \"epoch\": 0.5, \"loss\": 0.1, \"learning_rate\": 5e-05}\n"
            "{\"step\": 10, \"epoch\": 0.5, \"eval_accuracy\": 0.9125}\n"
            "{\"step\": 20, \"epoch\": 1, \"train_runtime\": 12}\n");
}

TEST_F(MetricsFileTest, NumbersReadBackToTheSameBits) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(std::bit_cast<std::uint64_t>(std::strtod(json_number(value).c_str(), nullptr)),
              std::bit_cast<std::uint64_t>(value))
        << json_number(value);
  }
  EXPECT_EQ(json_number(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(json_number(std::numeric_limits<double>::denorm_min()), "5e-324");
  EXPECT_EQ(json_number(std::numeric_limits<double>::max()), "1.7976931348623157e+308");
}

TEST_F(MetricsFileTest, NonFiniteValuesAreStringsThatStrictReadersTake) {
  const Json line = Json::parse(to_json_line({1, 0, {{"loss", kNaN}, {"a", kInfinity}, {"b", -kInfinity}}}));
  EXPECT_EQ(line["loss"], "NaN");
  EXPECT_EQ(line["a"], "Infinity");
  EXPECT_EQ(line["b"], "-Infinity");
}

TEST_F(MetricsFileTest, NamesAreQuotedWhateverTheyHold) {
  const Json line = Json::parse(to_json_line({1, 0, {{"a\"b\\\n\x01", 1}, {"bad \xff byte", 2}, {"step", 99}, {"epoch", 99}}}));
  EXPECT_EQ(line["a\"b\\\n\x01"], 1);
  EXPECT_EQ(line["bad \xEF\xBF\xBD byte"], 2);
  EXPECT_EQ(line["step"], 1);
  EXPECT_EQ(line["epoch"], 0);
}

TEST_F(MetricsFileTest, AppendsAndDropsALineThatACrashCutShort) {
  write_text("{\"step\": 1}\n{\"step\": 2, \"lo");
  MetricsFile(path_).on_log({2, 0, {}});
  EXPECT_EQ(text(), "{\"step\": 1}\n{\"step\": 2, \"epoch\": 0}\n");
}

TEST_F(MetricsFileTest, DropsATornFirstLineLongerThanABlock) {
  write_text(std::string(200000, 'x'));
  MetricsFile(path_).on_log({1, 0, {}});
  EXPECT_EQ(text(), "{\"step\": 1, \"epoch\": 0}\n");
}

TEST_F(MetricsFileTest, CutKeepsLinesUpToTheStepAndWhatIsNotOurs) {
  write_text("{\"step\": 1}\n# note\n{\"step\": 5}\n{\"step\": 6}\n{\"step\": 5.5}\n{\"step\": \"x\"}\n{\"step\": 3, \"tor");
  cut_metrics_file(path_, 5);
  EXPECT_EQ(text(), "{\"step\": 1}\n# note\n{\"step\": 5}\n{\"step\": \"x\"}\n");
  cut_metrics_file(path_, 0);
  EXPECT_EQ(text(), "# note\n{\"step\": \"x\"}\n");
}

TEST_F(MetricsFileTest, CutBeforeTheFirstStepKeepsNothingOfOurs) {
  write_text("{\"step\": 0}\n{\"step\": 1}\n# note\n");
  cut_metrics_file(path_, kBeforeTheFirstStep);
  EXPECT_EQ(text(), "# note\n");
}

TEST_F(MetricsFileTest, CutOfAMissingFileDoesNothing) {
  cut_metrics_file(path_, 5);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(MetricsFileTest, UnwritableFolderIsAnEnvironmentErrorNamingThePath) {
  const auto missing = directory_.path() / "missing" / "metrics.jsonl";
  try {
    MetricsFile file(missing);
    FAIL() << "expected EnvironmentError";
  } catch (const EnvironmentError& error) {
    EXPECT_EQ(error.component(), missing.string());
    EXPECT_THAT(error.message(), testing::HasSubstr("cannot be opened for writing: No such file"));
  }
}

// Writes beyond the limit fail with EFBIG after a part of the record got in: the same as a disk that fills up.
TEST_F(MetricsFileTest, FullDiskDropsWholeLinesAndRecovers) {
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  MetricsFile file(path_);
  file.on_log({1, 0, {{std::string(2000, 'x'), 1}}});  // longer than the warning, whose capture is a file too
  const std::string first = text();
  const rlimit tight{first.size() + 10, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  testing::internal::CaptureStderr();
  file.on_log({2, 0, {}});
  file.on_log({3, 0, {}});
  ::setrlimit(RLIMIT_FSIZE, &old);
  const std::string warnings = testing::internal::GetCapturedStderr();
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(text(), first);
  EXPECT_THAT(warnings, testing::HasSubstr("cannot be written: File too large; training goes on"));
  EXPECT_EQ(warnings.find("cannot be written"), warnings.rfind("cannot be written"))
      << "one warning for a row of failures: " << warnings;
  file.on_log({4, 0, {}});
  EXPECT_EQ(text(), first + "{\"step\": 4, \"epoch\": 0}\n");
}

}  // namespace
}  // namespace oumi
