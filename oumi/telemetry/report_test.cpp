#include "oumi/telemetry/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/json.h"
#include "oumi/telemetry/html.h"
#include "oumi/telemetry/png_encoder.h"
#include "oumi/telemetry/report_chart.h"
#include "oumi/telemetry/report_data.h"
#include "oumi/telemetry/report_input.h"

namespace oumi {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class ReportTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
  void write(const std::string& name, const std::string& text) {
    make_directories((directory_.path() / name).parent_path());
    write_file_atomically(directory_.path() / name, text);
  }
  std::string report() const { return make_report(directory_.path()); }
};

TEST_F(ReportTest, EmptyFolderFileAndMissingFolderAreUserErrors) {
  for (const auto& [path, message] :
       {std::pair{directory_.path(), "holds no files of a run"}, {directory_.path() / "none", "no such folder"}}) {
    try {
      make_report(path);
      ADD_FAILURE() << path;
    } catch (const UserError& error) {
      EXPECT_THAT(error.message(), HasSubstr(message));
    }
  }
}

TEST_F(ReportTest, ShowsCurvesTablesAndTiles) {
  std::string lines;
  for (int step = 1; step <= 100; ++step)
    lines += "{\"step\": " + std::to_string(step * 10) + ", \"epoch\": 1.5, \"loss\": " + std::to_string(1.0 / step) +
             ", \"learning_rate\": 0.1}\n";
  write("metrics_rank0000.jsonl",
        lines + "{\"step\": 1000, \"epoch\": 1.5, \"eval_loss\": 0.5, \"eval_accuracy\": 0.875, \"train_runtime\": 65}\n");
  const std::string page = report();
  EXPECT_THAT(page, AllOf(HasSubstr("<b>Loss</b>"), HasSubstr("<b>Learning rate</b>"),
                          HasSubstr("<b>0.875</b><span>last evaluation accuracy"), HasSubstr("<b>01:05</b>"),
                          HasSubstr("<b>1,000</b><span>steps")));
  EXPECT_THAT(page,
              AllOf(HasSubstr("telemetry/training_config.yaml is missing."), HasSubstr("trainer_state.json is missing.")));
  EXPECT_THAT(page, AllOf(Not(HasSubstr("http://")), Not(HasSubstr("https://")), Not(HasSubstr("nan"))));
}

TEST_F(ReportTest, EscapesHostileTextEverywhere) {
  const std::string evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'";
  const std::string quoted = Json(evil).dump();
  write("metrics_rank0000.jsonl",
        "{\"step\": 1, " + quoted + ": 1, \"loss\": 1}\n{\"step\": 2, " + quoted + ": 2, \"loss\": 2}\n");
  write("telemetry/training_config.yaml", "a: " + evil + "\n" + evil + ": b\n");
  write("telemetry/environment.json", "{" + quoted + ": " + quoted + "}");
  write("trainer_state.json", "{\"best\": [" + quoted + "], " + quoted + ": {\"x\": 1}}");
  write("telemetry/evaluation.json", "{\"class_names\": [" + quoted +
                                         ", \"b\"], \"confusion_matrix\": [[1, 2], [3, 4]], \"per_class\": {" + quoted +
                                         ": {\"f1\": 1}}}");
  write("telemetry/sample_predictions.json",
        "[{\"id\": " + quoted + ", \"label\": " + quoted + ", \"prediction\": " + quoted + ", \"text\": " + quoted + "}]");
  const std::string page = report();
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script>")), Not(HasSubstr("<img src=x")), HasSubstr("&lt;script&gt;alert(1)")));
  EXPECT_EQ(page.find("<script"), page.rfind("<script")) << "only the page's own script";
}

TEST_F(ReportTest, HostileErrorTextsAreEscapedToo) {
  write("metrics_rank0000.jsonl", "{\"step\": 1, \"loss\": 1}\n");
  write("telemetry/evaluation.json", "{\"per_class\": {\"<script>x</script>\": 3}}");
  EXPECT_THAT(report(), AllOf(Not(HasSubstr("<script>x")),
                              HasSubstr("per_class.&lt;script&gt;x&lt;/script&gt;: expected dict, got int")));
}

TEST_F(ReportTest, NamesWhatIsTornOrDamagedAndShowsTheRest) {
  write("metrics_rank0000.jsonl",
        "{\"step\": 1, \"loss\": 1}\nnot json\n[1, 2]\n{\"loss\": 3}\n\n{\"step\": 2, \"loss\": 2}\n{\"step\": 3, \"lo");
  write("trainer_state.json", "{\"epoch\": 1");
  write("telemetry/evaluation.json", "{\"confusion_matrix\": [[1, 2], [3]]}");
  write("telemetry/sample_predictions.json",
        R"([{"id": 1, "prediction": "a", "image": {"width": 2, "height": 2, "channels": 1, "data": "AAAA"}}])");
  const std::string page = report();
  EXPECT_THAT(page, HasSubstr("metrics_rank0000.jsonl: 4 lines could not be read, the first is line 2."));
  EXPECT_THAT(page, HasSubstr("trainer_state.json is damaged: it is not complete JSON."));
  EXPECT_THAT(page, HasSubstr("confusion_matrix[1]: expected 2 counts, got 1"));
  EXPECT_THAT(page, HasSubstr("[0].image.data: expected 4 bytes for the size given, got 3"));
  EXPECT_THAT(page, HasSubstr("<b>Loss</b>"));
}

TEST_F(ReportTest, LastLineCutShortIsSaidSo) {
  write("metrics_rank0000.jsonl", "{\"step\": 1, \"loss\": 1}\n{\"step\": 2, \"lo");
  EXPECT_THAT(report(), HasSubstr("the last line is cut short and left out"));
}

TEST_F(ReportTest, ReadsBareNaNOfPythonAndOurStrings) {
  MetricTable table;
  EXPECT_TRUE(table.add_line(R"({"step": 1, "loss": NaN, "note": "NaN in \"text\" is text", "x": -Infinity})"));
  EXPECT_TRUE(table.add_line(R"({"step": 2, "loss": "NaN", "x": "Infinity"})"));
  EXPECT_TRUE(std::isnan(table.find("loss")->points.at(0).value));
  EXPECT_TRUE(std::isnan(table.find("loss")->points.at(1).value));
  EXPECT_EQ(table.find("x")->points.at(0).value, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(table.find("note"), nullptr);
  EXPECT_FALSE(table.add_line(R"({"step": "NaN", "loss": 1})"));
  EXPECT_FALSE(table.add_line("3"));
  EXPECT_FALSE(table.add_line(R"([{"step": 1}])"));
  EXPECT_TRUE(table.add_line(R"({"step": 3, "nested": {"step": 9, "loss": 7}, "list": [1, {"loss": 2}]})"));
  EXPECT_EQ(table.last_step(), 3);
  EXPECT_EQ(table.find("loss")->points.size(), 2U);
}

TEST_F(ReportTest, ResumedRunsReplaceLaterSteps) {
  MetricTable table;
  for (const int step : {1, 2, 3, 4, 3, 4, 5}) table.add(step, "loss", step);
  EXPECT_EQ(table.find("loss")->points.size(), 5U);
}

TEST_F(ReportTest, HuggingFaceLogHistoryStandsInForMissingMetrics) {
  write("trainer_state.json",
        R"({"global_step": 20, "best_metric": NaN, "log_history": [{"step": 10, "loss": 1.5}, {"step": 20, "loss": NaN}]})");
  EXPECT_THAT(report(), AllOf(HasSubstr("<b>Loss</b>"), HasSubstr("log_history"), HasSubstr("1 value is NaN or infinite")));
}

TEST_F(ReportTest, AllNaNAndConstantAndHugeCurvesAreDrawn) {
  write("metrics_rank0000.jsonl",
        "{\"step\": 1, \"loss\": \"NaN\", \"a\": 5, \"b\": 1.7e308, \"c\": 1e-320}\n{\"step\": 2, \"loss\": \"NaN\", \"a\": 5, "
        "\"b\": -1.7e308, \"c\": 2e-320}\n");
  const std::string page = report();
  const std::string paths = page.substr(page.find("<figure"), page.rfind("</figure>") - page.find("<figure"));
  EXPECT_THAT(paths, AllOf(Not(HasSubstr("nan ")), Not(HasSubstr("inf ")), HasSubstr("2 values are NaN")));
}

TEST_F(ReportTest, SameFilesGiveTheSamePage) {
  write("metrics_rank0000.jsonl", "{\"step\": 1, \"loss\": 1}\n");
  EXPECT_EQ(report(), report());
}

TEST_F(ReportTest, TwoHundredThousandLinesInSeconds) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kLines = 20000;  // instrumented code is tens of times slower
#else
  constexpr int kLines = 200000;
#endif
  std::string lines;
  for (int step = 1; step <= kLines; ++step) {
    const std::string value = std::to_string(std::sin(step * 0.01) + 2);
    lines += "{\"step\": " + std::to_string(step) + ", \"epoch\": 1, \"loss\": " + value + ", \"grad_norm\": " + value +
             ", \"learning_rate\": 1e-5, \"samples_per_second\": 812.5}\n";
  }
  write("metrics_rank0000.jsonl", lines);
  const auto begin = std::chrono::steady_clock::now();
  const std::string page = report();
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 10);
  EXPECT_LT(page.size(), 2'000'000U);
}

TEST(ThinOutTest, KeepsExtremesOrderAndGaps) {
  std::vector<MetricPoint> points;
  for (int i = 0; i < 10000; ++i)
    points.push_back({static_cast<double>(i), i == 5000 ? 99.0 : i == 7000 ? -99.0 : i == 3000 ? kNaN : 0.0});
  const auto thin = thin_out(points, 100);
  EXPECT_LE(thin.size(), 100U);
  EXPECT_EQ(thin.front().step, 0);
  EXPECT_EQ(thin.back().step, 9999);
  int extremes = 0, gaps = 0;
  for (std::size_t i = 0; i < thin.size(); ++i) {
    if (i > 0) {
      ASSERT_LT(thin[i - 1].step, thin[i].step);
    }
    extremes += std::abs(thin[i].value) == 99;
    gaps += std::isnan(thin[i].value);
  }
  EXPECT_EQ(extremes, 2);
  EXPECT_EQ(gaps, 1);
}

TEST(AxisTicksTest, AreRoundAndInside) {
  EXPECT_THAT(axis_ticks(0, 1), testing::ElementsAre(0, testing::DoubleEq(0.2), testing::DoubleEq(0.4),
                                                     testing::DoubleNear(0.6, 1e-12), testing::DoubleEq(0.8), 1));
  for (const auto& [low, high] :
       {std::pair{0.0, 0.0}, {5.0, 5.0}, {-3.0, 1e300}, {1e-310, 2e-310}, {1e15, 1e15 + 1}, {-1.7e308, 1.7e308}}) {
    const auto ticks = axis_ticks(low, high);
    ASSERT_GE(ticks.size(), 2U) << low << " " << high;
    ASSERT_LE(ticks.size(), 12U) << low << " " << high;
    for (std::size_t i = 0; i < ticks.size(); ++i) EXPECT_TRUE(std::isfinite(ticks[i]));
  }
}

TEST(HtmlTest, EscapesAndFormats) {
  EXPECT_EQ(escape_html("<a href=\"x\">&'\x01\xff"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(display_number(1234567), "1,234,567");
  EXPECT_EQ(display_number(-1234), "-1,234");
  EXPECT_EQ(display_number(-123), "-123");
  EXPECT_EQ(display_number(0.00005), "5e-05");
  EXPECT_EQ(display_number(kNaN), "NaN");
}

TEST(Base64Test, RoundTripsAndRefuses) {
  EXPECT_EQ(encode_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  for (const std::string text : {"", "f", "fo", "foo", "\xff\x00z"}) EXPECT_EQ(decode_base64(encode_base64(text)), text);
  for (const char* bad : {"A", "A===", "====", "Zg=x", "Z g=", "Zg==Zg=="}) EXPECT_THROW(decode_base64(bad), UserError) << bad;
}

TEST(ReportDataTest, RoundTripsThroughFiles) {
  const TemporaryDirectory directory;
  EvaluationReport evaluation{.metrics = {{"eval_loss", kNaN}, {"eval_accuracy", 0.5}},
                              .class_names = {"cat", "dog\xff"},
                              .confusion_matrix = {{3, 1}, {2, 4}},
                              .per_class = {}};
  evaluation.per_class = scores_from_confusion_matrix(evaluation.confusion_matrix, evaluation.class_names);
  write_evaluation_report(directory.path() / "telemetry", evaluation);
  const auto read = evaluation_report_from_json(read_json_file(directory.path() / "telemetry/evaluation.json"));
  EXPECT_EQ(read.confusion_matrix, evaluation.confusion_matrix);
  EXPECT_TRUE(std::isnan(read.metrics[0].second));
  EXPECT_DOUBLE_EQ(read.per_class.at(0).precision, 0.6);
  EXPECT_DOUBLE_EQ(read.per_class.at(0).recall, 0.75);
  EXPECT_NEAR(read.per_class.at(1).f1, 8.0 / 11, 1e-12);

  SamplePrediction sample{.id = "7", .label = "cat", .prediction = "dog", .probability = 0.25};
  sample.image = Thumbnail{2, 1, 3, {1, 2, 3, 250, 251, 252}};
  write_sample_predictions(directory.path() / "telemetry", {sample});
  const auto samples = sample_predictions_from_json(read_json_file(directory.path() / "telemetry/sample_predictions.json"));
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples[0].image->pixels, sample.image->pixels);
  EXPECT_EQ(samples[0].probability, 0.25);
}

TEST(ReportDataTest, RefusesWhatDoesNotFit) {
  const TemporaryDirectory directory;
  EXPECT_THROW(write_evaluation_report(directory.path(),
                                       {.metrics = {}, .class_names = {}, .confusion_matrix = {{1, 2}}, .per_class = {}}),
               InternalError);
  SamplePrediction sample;
  sample.image = Thumbnail{2, 2, 1, {1}};
  EXPECT_THROW(write_sample_predictions(directory.path(), {sample}), InternalError);
  EXPECT_THROW(encode_png({}, 1LL << 40, 1LL << 40, 1), InternalError);
}

}  // namespace
}  // namespace oumi
