// One self-contained HTML page about a run: curves, config, environment, final metrics, confusion matrix, sample predictions.
#pragma once

#include <filesystem>
#include <string>

namespace oumi {

struct ReportOptions {
  std::size_t points_per_curve = 1500;  // longer curves are thinned, keeping the extremes of each stretch
  std::size_t max_samples = 64;         // sample predictions shown
};

// Reads what the run left in `output_dir` and returns the page. No network, no scripts from outside, every text escaped.
// Files that are missing, cut short or damaged are named on the page and the rest is shown. Throws UserError only when
// `output_dir` is not a folder or holds nothing of a run.
std::string make_report(const std::filesystem::path& output_dir, const ReportOptions& options = {});

}  // namespace oumi
