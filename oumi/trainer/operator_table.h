// What operators took, summed by name as torch.profiler's tables are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace oumi {

// One call of an operator, or one allocation (or, with negative bytes, one release) by the call around it.
struct OperatorEvent {
  std::string name, shapes;
  std::uint64_t thread = 0;
  std::int64_t start_ns = 0, end_ns = 0;
  std::int64_t flops = 0;
  bool is_memory = false;
  std::int64_t bytes = 0;
};

// Sums over calls; "self" leaves out the calls inside them.
struct OperatorTotals {
  std::string name, shapes;
  std::int64_t calls = 0, total_ns = 0, self_ns = 0, total_bytes = 0, self_bytes = 0, flops = 0;
};

// By name, or by name and shapes. A call's time counts once among the totals of its own name, however deep it calls itself.
std::vector<OperatorTotals> sum_operators(std::vector<OperatorEvent> events, bool by_shape);

struct OperatorTableOptions {
  // cpu_time_total, self_cpu_time_total, cpu_memory_usage or self_cpu_memory_usage, the largest first.
  std::string sort_by = "self_cpu_time_total";
  std::int64_t row_limit = 50;  // -1: all
  bool memory = false, shapes = false, flops = false;
};

std::string operator_table(std::vector<OperatorTotals> totals, const OperatorTableOptions& options);

}  // namespace oumi
