#include "oumi/trainer/operator_table.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "oumi/base/strings.h"

namespace oumi {
namespace {

// A call that has begun and not ended, and its row.
struct OpenCall {
  const OperatorEvent* event;
  OperatorTotals* row;
  bool outermost;  // of its row
};

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string duration(std::int64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns >= 1'000'000'000) return fixed(value / 1e9, 3) + "s";
  if (ns >= 1'000'000) return fixed(value / 1e6, 3) + "ms";
  return fixed(value / 1e3, 3) + "us";
}

std::string share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? fixed(100.0 * static_cast<double>(part) / static_cast<double>(whole), 2) + "%" : "-";
}

std::string memory(std::int64_t bytes) {
  return (bytes < 0 ? "-" : "") + format_bytes(static_cast<std::uint64_t>(bytes < 0 ? -bytes : bytes));
}

std::int64_t sort_value(const OperatorTotals& row, const std::string& key) {
  if (key == "cpu_time_total") return row.total_ns;
  if (key == "cpu_memory_usage") return row.total_bytes;
  if (key == "self_cpu_memory_usage") return row.self_bytes;
  return row.self_ns;
}

// Names can be long: templates' are.
std::string shortened(const std::string& text) {
  constexpr std::size_t kMost = 100;
  return text.size() <= kMost ? text : text.substr(0, kMost - 3) + "...";
}

}  // namespace

std::vector<OperatorTotals> sum_operators(std::vector<OperatorEvent> events, bool by_shape) {
  // A call comes before those inside it, and before the memory that it takes.
  std::stable_sort(events.begin(), events.end(), [](const OperatorEvent& a, const OperatorEvent& b) {
    if (a.thread != b.thread) return a.thread < b.thread;
    if (a.start_ns != b.start_ns) return a.start_ns < b.start_ns;
    if (a.is_memory != b.is_memory) return b.is_memory;
    return a.end_ns > b.end_ns;
  });
  std::map<std::pair<std::string, std::string>, OperatorTotals> rows;
  std::vector<OpenCall> open;
  std::uint64_t thread = 0;
  for (const OperatorEvent& event : events) {
    if (event.thread != thread) open.clear();
    thread = event.thread;
    while (!open.empty() && open.back().event->end_ns <= event.start_ns &&
           !(event.is_memory && open.back().event->end_ns == event.start_ns))
      open.pop_back();
    if (event.is_memory) {
      if (!open.empty()) open.back().row->self_bytes += event.bytes;
      for (const OpenCall& call : open) {
        if (call.outermost) call.row->total_bytes += event.bytes;
      }
      continue;
    }
    const std::string shapes = by_shape ? event.shapes : "";
    OperatorTotals& row = rows[{event.name, shapes}];
    row.name = event.name;
    row.shapes = shapes;
    const bool outermost = std::none_of(open.begin(), open.end(), [&](const OpenCall& call) { return call.row == &row; });
    const std::int64_t ns = event.end_ns - event.start_ns;
    row.calls += 1;
    row.self_ns += ns;
    row.flops += event.flops;
    if (outermost) row.total_ns += ns;
    if (!open.empty()) open.back().row->self_ns -= ns;
    open.push_back({&event, &row, outermost});
  }
  std::vector<OperatorTotals> result;
  for (auto& [key, row] : rows) result.push_back(std::move(row));
  return result;
}

std::string operator_table(std::vector<OperatorTotals> totals, const OperatorTableOptions& options) {
  std::int64_t whole = 0;
  for (const OperatorTotals& row : totals) whole += row.self_ns;
  std::stable_sort(totals.begin(), totals.end(), [&](const OperatorTotals& a, const OperatorTotals& b) {
    return sort_value(a, options.sort_by) > sort_value(b, options.sort_by);
  });
  const std::size_t all = totals.size();
  if (options.row_limit >= 0 && all > static_cast<std::size_t>(options.row_limit))
    totals.resize(static_cast<std::size_t>(options.row_limit));

  std::vector<std::vector<std::string>> table{{"Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"}};
  if (options.memory) table[0].insert(table[0].end(), {"CPU Mem", "Self CPU Mem"});
  table[0].emplace_back("# of Calls");
  if (options.flops) table[0].emplace_back("Total MFLOPs");
  if (options.shapes) table[0].emplace_back("Input Shapes");
  for (const OperatorTotals& row : totals) {
    std::vector<std::string> line{shortened(row.name),        share(row.self_ns, whole), duration(row.self_ns),
                                  share(row.total_ns, whole), duration(row.total_ns),    duration(row.total_ns / row.calls)};
    if (options.memory) line.insert(line.end(), {memory(row.total_bytes), memory(row.self_bytes)});
    line.push_back(std::to_string(row.calls));
    if (options.flops) line.push_back(row.flops > 0 ? fixed(static_cast<double>(row.flops) / 1e6, 3) : "--");
    if (options.shapes) line.push_back(shortened(row.shapes));
    table.push_back(std::move(line));
  }
  std::vector<std::size_t> widths(table[0].size());
  for (const auto& line : table) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string rule, text;
  for (const std::size_t width : widths) rule += std::string(width, '-') + "  ";
  rule.back() = '\n';
  text = rule;
  for (std::size_t row = 0; row < table.size(); ++row) {
    for (std::size_t i = 0; i < table[row].size(); ++i) {
      const std::string fill(widths[i] - table[row][i].size(), ' ');
      // Text to the left, figures to the right.
      const bool left = i == 0 || (options.shapes && i + 1 == widths.size());
      text += left ? table[row][i] + fill : fill + table[row][i];
      text += i + 1 < widths.size() ? "  " : "\n";
    }
    if (row == 0) text += rule;
  }
  text += rule;
  if (totals.size() < all) text += cat(all - totals.size(), " more rows are left out (training.profiler.row_limit)\n");
  return text + "Self CPU time total: " + duration(whole) + "\n";
}

}  // namespace oumi
