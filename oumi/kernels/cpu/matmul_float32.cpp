#include "oumi/kernels/cpu/matmul_float32.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <string_view>
#include <vector>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/simd_blocks.h"

namespace oumi::kernels::cpu {
namespace {

// Rows of the left operand by inner size stay in the second-level cache (110 KiB), a strip of the right one by inner size in
// the first (18 KiB).
constexpr std::int64_t kBlockRows = 96, kBlockInner = 288;
// The right operand is packed in panels of at most so many inner values and, for all threads together, so many floats (4 MiB).
constexpr std::int64_t kPanelInner = 2048, kPanelFloats = 1 << 20;
// Strips of the right operand that a thread packs at a time.
constexpr std::int64_t kPackedStrips = 8;
// What packing leaves over at a buffer's end, and what it takes to begin on a cache line.
constexpr std::size_t kSpare = 8, kCacheLine = 16;

// The size of equal parts of `whole`, none larger than `most`, in steps.
constexpr std::int64_t part_of(std::int64_t whole, std::int64_t most, std::int64_t step) {
  return rounded_up(divided_up(whole, divided_up(whole, most)), step);
}

// A thread's memory for packed values and sums: kept between calls, so that a step allocates nothing here.
class Buffer {
 public:
  float* at_least(std::int64_t size) {
    const std::size_t wanted = static_cast<std::size_t>(size) + kSpare + kCacheLine;
    if (values_.size() < wanted) values_.resize(wanted);
    const auto address = reinterpret_cast<std::uintptr_t>(values_.data()) / sizeof(float);
    return values_.data() + (rounded_up(static_cast<std::int64_t>(address), kCacheLine) - static_cast<std::int64_t>(address));
  }

 private:
  std::vector<float> values_;
};

// The left operand's rows or the right one's columns.
struct Operand {
  const void* data;
  bool is_bfloat16;
  std::int64_t line_stride, inner_stride;

  template <class T>
  Lines<T> lines(std::int64_t line, std::int64_t inner) const {
    return {static_cast<const T*>(data) + line * line_stride + inner * inner_stride, line_stride, inner_stride};
  }
};

Operand operand_of(const Tensor& tensor, std::int64_t line_dimension) {
  return {tensor.const_data_ptr(), tensor.scalar_type() == at::kBFloat16, tensor.stride(line_dimension),
          tensor.stride(1 - line_dimension)};
}

struct BlockProduct {
  std::int64_t m, n, k;
  Operand a, b;
  const float* bias;  // [n] or null
  float* sums;        // one of the two
  BFloat16* rounded;
  std::int64_t stride;  // of the output's rows
  bool add;
};

// A part of the right operand, packed for all threads: [strip][inner][kStripColumns].
struct Panel {
  std::int64_t first_column, columns, first_inner, inner;
  float* packed;
  std::int64_t strip_stride() const { return inner * kStripColumns; }
};

// Calls `action` with 0 ... count - 1, each once, on all threads, whichever is free.
void for_each_piece(std::int64_t count, c10::function_ref<void(std::int64_t)> action) {
  std::atomic<std::int64_t> next = 0;
  parallel_for(0, std::min<std::int64_t>(count, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    for (std::int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < count;) action(piece);
  });
}

void pack_panel(const BlockProduct& product, const Panel& panel) {
  const std::int64_t strips = divided_up(panel.columns, kStripColumns);
  for_each_piece(divided_up(strips, kPackedStrips), [&](std::int64_t piece) {
    const std::int64_t first = piece * kPackedStrips, column = first * kStripColumns;
    const std::int64_t columns = std::min(kPackedStrips * kStripColumns, panel.columns - column);
    float* to = panel.packed + first * panel.strip_stride();
    if (product.b.is_bfloat16) {
      pack_columns(product.b.lines<BFloat16>(panel.first_column + column, panel.first_inner), columns, panel.inner, to);
    } else {
      pack_columns(product.b.lines<float>(panel.first_column + column, panel.first_inner), columns, panel.inner, to);
    }
  });
}

// The rows from `row` on of the panel's columns.
void multiply_rows(const BlockProduct& product, const Panel& panel, std::int64_t row, std::int64_t rows) {
  thread_local Buffer left_buffer, sums_buffer;
  const std::int64_t step = part_of(panel.inner, kBlockInner, 1);
  float* left = left_buffer.at_least(rounded_up(rows, kStripRows) * step);
  const bool rounds = product.rounded != nullptr;
  float* sums = rounds ? sums_buffer.at_least(rows * panel.columns) : product.sums + row * product.stride + panel.first_column;
  const std::int64_t stride = rounds ? panel.columns : product.stride;
  for (std::int64_t first = 0; first < panel.inner; first += step) {
    const std::int64_t inner = std::min(step, panel.inner - first), place = panel.first_inner + first;
    if (product.a.is_bfloat16) {
      pack_rows(product.a.lines<BFloat16>(row, place), rows, inner, left);
    } else {
      pack_rows(product.a.lines<float>(row, place), rows, inner, left);
    }
    multiply_strips({rows, panel.columns, inner, left, panel.packed + first * kStripColumns, panel.strip_stride(), sums, stride,
                     place > 0 || product.add});
  }
  if (panel.first_inner + panel.inner < product.k) return;
  for (std::int64_t i = 0; i < rows; ++i) {
    float* line = sums + i * stride;
    if (product.bias != nullptr) {
      for (std::int64_t j = 0; j < panel.columns; ++j) line[j] += product.bias[panel.first_column + j];
    }
    if (rounds) simd().narrow(line, product.rounded + (row + i) * product.stride + panel.first_column, panel.columns);
  }
}

void run_by_blocks(const BlockProduct& product) {
  thread_local Buffer buffer;  // the calling thread's, which the others read and fill
  const std::int64_t threads = at::get_num_threads();
  const std::int64_t pieces =
      rounded_up(divided_up(product.m, kBlockRows), std::min(threads, divided_up(product.m, kStripRows)));
  const std::int64_t rows = rounded_up(divided_up(product.m, pieces), kStripRows);
  for (std::int64_t first_inner = 0; first_inner < product.k; first_inner += kPanelInner) {
    const std::int64_t inner = std::min(kPanelInner, product.k - first_inner);
    const std::int64_t width = part_of(product.n, kPanelFloats / inner, kStripColumns);
    for (std::int64_t column = 0; column < product.n; column += width) {
      const std::int64_t columns = std::min(width, product.n - column);
      const Panel panel{column, columns, first_inner, inner, buffer.at_least(rounded_up(columns, kStripColumns) * inner)};
      pack_panel(product, panel);
      for_each_piece(divided_up(product.m, rows), [&](std::int64_t piece) {
        multiply_rows(product, panel, piece * rows, std::min(rows, product.m - piece * rows));
      });
    }
  }
}

}  // namespace

bool has_blocks() {
  static const bool has = std::string_view(simd().name) == "avx2";
  return has;
}

bool goes_by_blocks(const Tensor& a, const Tensor& b) {
  if (!has_blocks() || !is_packed_matrix(a) || !is_packed_matrix(b) || a.size(1) != b.size(0)) return false;
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  // Fewer rows than packing the right operand is worth, or too small to be worth anything.
  return m >= 32 && n >= kStripColumns && k >= 32 && m * n * k >= (1 << 20);
}

void multiply_by_blocks(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out, bool add) {
  const Tensor wide_bias = bias.defined() ? bias.to(at::kFloat).contiguous() : Tensor();
  BlockProduct product{
      a.size(0), b.size(1),     a.size(1), operand_of(a, 0), operand_of(b, 1), pointer<float>(wide_bias), nullptr,
      nullptr,   out.stride(0), add};
  if (out.scalar_type() == at::kFloat) {
    product.sums = pointer<float>(out);
    run_by_blocks(product);
  } else if (product.k <= kPanelInner) {
    product.rounded = pointer<BFloat16>(out);
    run_by_blocks(product);
  } else {
    // Sums wait for further panels.
    const Tensor sums = at::empty(out.sizes(), out.options().dtype(at::kFloat));
    product.sums = pointer<float>(sums);
    product.stride = sums.stride(0);
    run_by_blocks(product);
    out.copy_(sums);
  }
}

}  // namespace oumi::kernels::cpu
