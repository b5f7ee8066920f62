#include "oumi/telemetry/progress_bar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/text_bytes.h"
#include "oumi/telemetry/progress_text.h"

namespace oumi {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

// A console that writes to a file.
class Screen {
 public:
  explicit Screen(Console::Style style)
      : path_(directory_.path() / "screen"), file_(::open(path_.c_str(), O_CREAT | O_WRONLY, 0600)), console_(file_, style) {}
  ~Screen() { ::close(file_); }
  Console& console() { return console_; }
  std::string bytes() const { return read_text_file(path_); }
  // What stands on a terminal in the end: \r goes back, "\x1b[K" erases to the end of the line. ASCII only.
  std::string shown() const {
    std::string done, line;
    std::size_t column = 0;
    const std::string all = bytes();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i] == '\r')
        column = 0;
      else if (all.compare(i, 3, "\x1b[K") == 0)
        line.resize(column), i += 2;
      else if (all[i] == '\n')
        done += line + "\n", line.clear(), column = 0;
      else {
        if (column == line.size())
          line += all[i];
        else
          line[column] = all[i];
        ++column;
      }
    }
    return done + line;
  }

 private:
  TemporaryDirectory directory_;
  std::filesystem::path path_;
  int file_;
  Console console_;
};

struct Clock {
  std::chrono::steady_clock::time_point time{};
  ProgressBarOptions options() {
    ProgressBarOptions options;
    options.now = [this] { return time; };
    return options;
  }
};

Progress training(std::int64_t step, std::int64_t total) {
  Progress progress;
  progress.step = step;
  progress.total = total;
  progress.samples = step * 16;
  return progress;
}

RunInfo run_of(std::int64_t steps, std::int64_t start = 0) {
  RunInfo run;
  run.total_steps = steps;
  run.start_step = start;
  return run;
}

TEST(ProgressBarTest, TerminalShowsLossRateAndTimeLeft) {
  Screen screen({.interactive = true, .width = 120});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  bar.on_run_begin(run_of(100));
  for (int step = 1; step <= 50; ++step) {
    clock.time += milliseconds(500);
    bar.on_progress(training(step, 100));
  }
  bar.on_log({50, 0.5, {{"loss", 0.31215}}});
  EXPECT_THAT(screen.shown(), HasSubstr(" 50% | 50/100 | loss 0.3121 | 2.0 it/s | 32.0 samples/s | 00:25 | 00:25 left"));
  EXPECT_THAT(screen.shown(), Not(HasSubstr("\n")));
}

TEST(ProgressBarTest, EvaluationTimeIsNoTrainingTime) {
  Screen screen({.interactive = true, .width = 120});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  bar.on_run_begin(run_of(100));
  for (int step = 1; step <= 10; ++step) clock.time += milliseconds(1000), bar.on_progress(training(step, 100));
  Progress evaluation;
  evaluation.phase = Phase::kEvaluate;
  evaluation.total = 40;
  for (evaluation.step = 0; evaluation.step <= 40; ++evaluation.step)
    bar.on_progress(evaluation), clock.time += milliseconds(1000);
  EXPECT_THAT(screen.shown(), HasSubstr("evaluate"));
  bar.on_eval({10, 0.1, {{"eval_loss", 0.5}}});
  clock.time += milliseconds(1000);
  bar.on_progress(training(11, 100));
  EXPECT_THAT(screen.shown(), HasSubstr("evaluation at step 10/100, epoch 0.1, eval_loss 0.5\n"));
  EXPECT_THAT(screen.shown(), HasSubstr("11/100 | 1.0 it/s | 16.0 samples/s | 00:11 | 01:29 left"));
}

TEST(ProgressBarTest, ResumedRunTimesOnlyItsOwnSteps) {
  Screen screen({.interactive = true, .width = 120});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  bar.on_run_begin(run_of(1000, 900));
  clock.time += milliseconds(10000);
  Progress progress = training(910, 1000);
  progress.samples = 160;
  bar.on_progress(progress);
  EXPECT_THAT(screen.shown(), HasSubstr("910/1000 | 1.0 it/s | 16.0 samples/s | 00:10 | 01:30 left"));
}

TEST(ProgressBarTest, RedrawsAtMostTenTimesASecond) {
  Screen screen({.interactive = true, .width = 80});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  bar.on_run_begin(run_of(100000));
  for (int step = 1; step <= 10000; ++step)
    clock.time += std::chrono::microseconds(100), bar.on_progress(training(step, 100000));
  const std::string bytes = screen.bytes();
  EXPECT_LE(std::count(bytes.begin(), bytes.end(), '\r'), 12);
}

TEST(ProgressBarTest, EndLeavesTheBarAndAFreshLine) {
  Screen screen({.interactive = true, .width = 60});
  Clock clock;
  {
    ProgressBar bar(screen.console(), clock.options());
    bar.on_run_begin(run_of(10));
    clock.time += milliseconds(1000);
    bar.on_progress(training(3, 10));
  }  // as when an exception ends the run
  EXPECT_THAT(screen.shown(), testing::EndsWith("\n"));
  EXPECT_THAT(screen.shown(), HasSubstr("3/10"));
  screen.console().print_line("error: [data] broken");
  EXPECT_THAT(screen.shown(), testing::EndsWith("\nerror: [data] broken\n"));
}

TEST(ProgressBarTest, LogLinesAppearAboveTheBar) {
  Screen screen({.interactive = true, .width = 60});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  bar.on_run_begin(run_of(10));
  screen.console().print_line("saved checkpoint-5");
  EXPECT_THAT(screen.shown(), testing::StartsWith("saved checkpoint-5\ntrain ["));
}

TEST(ProgressBarTest, NoTerminalGivesOnePlainLineALogAndNoneAStep) {
  for (const bool interactive : {false, true}) {
    Screen screen({.interactive = interactive, .width = 80});
    Clock clock;
    ProgressBarOptions options = clock.options();
    options.enabled = !interactive;  // a terminal with disable_tqdm behaves the same
    ProgressBar bar(screen.console(), options);
    bar.on_run_begin(run_of(20));
    for (int step = 1; step <= 10; ++step) clock.time += milliseconds(1000), bar.on_progress(training(step, 20));
    bar.on_log({10, 0.5, {{"loss", 0.25}, {"learning_rate", 5e-05}}});
    bar.on_eval({10, 0.5, {{"eval_loss", std::nan("")}}});
    bar.on_run_end();
    EXPECT_EQ(screen.bytes(),
              "step 10/20, epoch 0.5, loss 0.25, learning_rate 5e-05, 00:10 left\n"
              "evaluation at step 10/20, epoch 0.5, eval_loss nan\n");
  }
}

TEST(ProgressBarTest, EvaluationAloneHasABarThatGoesAway) {
  Screen screen({.interactive = true, .width = 80});
  Clock clock;
  ProgressBar bar(screen.console(), clock.options());
  Progress progress;
  progress.phase = Phase::kEvaluate;
  progress.step = progress.total = 5;
  progress.name = "mnli\x1b[2J";
  clock.time += milliseconds(1000);
  bar.on_progress(progress);
  EXPECT_THAT(screen.shown(), HasSubstr("evaluate mnli\\x1b[2J [####"));
  bar.on_eval({5, 0, {{"eval_loss", 1}}});
  bar.on_run_end();
  EXPECT_EQ(screen.shown(), "evaluation at step 5, epoch 0, eval_loss 1\n");
}

TEST(ProgressTextTest, FitsEveryWidth) {
  BarState state{.label = "train",
                 .step = 123456,
                 .total = 999999,
                 .loss = 1.23456,
                 .steps_per_second = 0.01,
                 .samples_per_second = 12345,
                 .seconds_left = 87654321,
                 .elapsed_seconds = 1e6};
  for (const bool fancy : {false, true}) {
    Screen screen({.interactive = true, .color = fancy, .unicode = fancy, .width = 80});
    for (int columns = 1; columns <= 250; ++columns) {
      ASSERT_LE(display_width(render_bar(state, columns, screen.console())), static_cast<std::size_t>(columns))
          << render_bar(state, columns, screen.console());
    }
  }
}

TEST(ProgressTextTest, NarrowTerminalKeepsWhatMattersMost) {
  Screen screen({.interactive = true, .width = 80});
  BarState state{.label = "train",
                 .step = 500,
                 .total = 1000,
                 .loss = 0.5,
                 .steps_per_second = 10,
                 .samples_per_second = 160,
                 .seconds_left = 50,
                 .elapsed_seconds = 50};
  EXPECT_EQ(render_bar(state, 50, screen.console()), "train  50% | 500/1000 | loss 0.5 | 00:50 left");
  EXPECT_EQ(render_bar(state, 34, screen.console()), "train  50% | 500/1000 | loss 0.5");
  EXPECT_EQ(render_bar(state, 12, screen.console()), "train  50%");
  EXPECT_EQ(render_bar(state, 2, screen.console()), "");
}

TEST(ProgressTextTest, UnknownTotalHasNoBarAndNoTimeLeft) {
  Screen screen({.interactive = true, .width = 80});
  EXPECT_EQ(render_bar({.label = "train", .step = 7, .elapsed_seconds = 3}, 80, screen.console()), "train step 7 | 00:03");
}

TEST(ProgressTextTest, NearlyDoneIsNotHundredPercent) {
  Screen screen({.interactive = true, .width = 80});
  EXPECT_THAT(render_bar({.label = "train", .step = 9999, .total = 10000}, 80, screen.console()), HasSubstr(" 99% "));
}

TEST(ConsoleTest, StyleFollowsTheEnvironment) {
  Screen screen({});
  const int file = ::open("/dev/null", O_WRONLY);
  EXPECT_FALSE(Console::detect_style(file).interactive);
  ::close(file);
  EXPECT_EQ(screen.console().colored("x", "31"), "x");
}

TEST(ConsoleTest, ControlCharactersAreMadeVisible) {
  EXPECT_EQ(printable("a\x1b]0;t\x07\n"), "a\\x1b]0;t\\x07\\x0a");
  EXPECT_EQ(printable("a\tb\nc\r", false), "a\tb\nc\\x0d");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m \xC3\xBC"),
            "\\xc2\\x9b31m \xC3\xBC");
  EXPECT_EQ(printable("\xEF\xBF\xBD \xC3( \xED\xA0\x80 \xF0\x9F"), "\xEF\xBF\xBD \\xc3( \\xed\\xa0\\x80 \\xf0\\x9f");
  EXPECT_EQ(printable(std::string_view("\0a", 2)), "\\x00a");
}

TEST(ConsoleTest, AnErrorThatQuotesAFileStaysOneLine) {
  EXPECT_EQ(describe(UserError("a\nb", "got '\r\xFF\n'", "see\nc")), "error: [a\\x0ab] got '\\x0d\\xff\\x0a'\nhint: see\\x0ac");
}

}  // namespace
}  // namespace oumi
