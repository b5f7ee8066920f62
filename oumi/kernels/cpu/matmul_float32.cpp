#include "oumi/kernels/cpu/matmul_float32.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <atomic>
#include <string_view>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/scratch.h"
#include "oumi/kernels/cpu/simd_blocks.h"

namespace oumi::kernels::cpu {
namespace {

// Rows of the left operand by inner size stay in the second-level cache (110 KiB a step), a strip of the right one by inner
// size in the first (18 KiB).
constexpr std::int64_t kBlockRows = 96, kBlockInner = 288;
// So many inner values of the left operand are packed at a time (216 KiB): sums are read and written once for all of them.
constexpr std::int64_t kGroupInner = 576;
// The right operand is packed in panels of at most so many inner values and, for all threads together, so many floats (2 MiB:
// with 8, the shapes of SmolLM2-135M took a tenth longer).
constexpr std::int64_t kPanelInner = 1024, kPanelFloats = 1 << 19;
// How many pieces the last block of each thread is cut into.
constexpr std::int64_t kTailPieces = 4;
// Strips of the right operand that a thread packs at a time.
constexpr std::int64_t kPackedStrips = 8;
// What packing rows may write beyond a buffer's end.
constexpr std::int64_t kSpare = 8;

// The size of equal parts of `whole`, none larger than `most`, in steps.
constexpr std::int64_t part_of(std::int64_t whole, std::int64_t most, std::int64_t step) {
  return rounded_up(divided_up(whole, divided_up(whole, most)), step);
}

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

struct Left {
  Operand rows;
  std::int64_t m;
};

struct Right {
  Operand columns;
  std::int64_t n;
  const float* bias;  // [n] or null
};

struct Output {
  float* sums;  // one of the two
  BFloat16* rounded;
  std::int64_t stride;  // of its rows
};

// Every left operand times every right one.
struct BlockProducts {
  c10::SmallVector<Left, 4> lefts;
  c10::SmallVector<Right, 4> rights;
  c10::SmallVector<Output, 4> outputs;  // [left][right]
  std::int64_t k;
  bool add;
};

// A part of a right operand, packed for all threads: [strip][inner][kStripColumns].
struct Panel {
  std::size_t right;
  std::int64_t first_column, columns;
  float* packed;
};

// The panels that are in memory at once, of the same inner values.
struct Panels {
  std::int64_t first_inner, inner;
  c10::SmallVector<Panel, 8> list;
  std::int64_t columns() const {
    std::int64_t sum = 0;
    for (const Panel& panel : list) sum += panel.columns;
    return sum;
  }
  std::int64_t strip_stride() const { return inner * kStripColumns; }
};

// Calls `action` with 0 ... count - 1, each once, on all threads, whichever is free.
void for_each_piece(std::int64_t count, c10::function_ref<void(std::int64_t)> action) {
  std::atomic<std::int64_t> next = 0;
  parallel_for(0, std::min<std::int64_t>(count, at::get_num_threads()), 1, [&](std::int64_t, std::int64_t) {
    for (std::int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < count;) action(piece);
  });
}

void pack_strips(const Right& right, const Panels& panels, const Panel& panel, std::int64_t first_strip) {
  const std::int64_t column = first_strip * kStripColumns;
  const std::int64_t columns = std::min(kPackedStrips * kStripColumns, panel.columns - column);
  float* to = panel.packed + first_strip * panels.strip_stride();
  if (right.columns.is_bfloat16) {
    pack_columns(right.columns.lines<BFloat16>(panel.first_column + column, panels.first_inner), columns, panels.inner, to);
  } else {
    pack_columns(right.columns.lines<float>(panel.first_column + column, panels.first_inner), columns, panels.inner, to);
  }
}

void pack_panels(const BlockProducts& products, const Panels& panels) {
  struct Piece {
    const Panel* panel;
    std::int64_t first_strip;
  };
  c10::SmallVector<Piece, 64> pieces;
  for (const Panel& panel : panels.list) {
    for (std::int64_t strip = 0; strip < divided_up(panel.columns, kStripColumns); strip += kPackedStrips)
      pieces.push_back({&panel, strip});
  }
  for_each_piece(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const auto& [panel, first_strip] = pieces[static_cast<std::size_t>(i)];
    pack_strips(products.rights[panel->right], panels, *panel, first_strip);
  });
}

// Rows of a left operand from `row` on.
struct RowPiece {
  std::size_t left;
  std::int64_t row, rows;
};

// Those rows of the panels' columns.
void multiply_rows(const BlockProducts& products, const Panels& panels, const RowPiece& piece) {
  thread_local ScratchMemory<float> left_memory, sums_memory;
  const auto& [left, row, rows] = piece;
  const Operand& from = products.lefts[left].rows;
  const auto output_of = [&](const Panel& panel) -> const Output& {
    return products.outputs[left * products.rights.size() + panel.right];
  };
  const std::int64_t step = part_of(panels.inner, kBlockInner, 1), group = part_of(panels.inner, kGroupInner, step);
  const std::int64_t packed_rows = rounded_up(rows, kStripRows);
  float* packed = left_memory.at_least(packed_rows * group + kSpare);
  // Sums that are to be rounded wait here, panel after panel.
  const bool rounds = output_of(panels.list[0]).rounded != nullptr;
  float* waiting = rounds ? sums_memory.at_least(rows * panels.columns()) : nullptr;
  const auto for_panels = [&](auto&& action) {
    float* sums = waiting;
    for (const Panel& panel : panels.list) {
      const Output& out = output_of(panel);
      action(panel, rounds ? sums : out.sums + row * out.stride + panel.first_column, rounds ? panel.columns : out.stride);
      if (rounds) sums += rows * panel.columns;
    }
  };
  // Calls action(first inner value, how many) for the steps of a group.
  const auto for_steps = [&](std::int64_t begin, auto&& action) {
    const std::int64_t end = std::min(begin + group, panels.inner);
    for (std::int64_t first = begin; first < end; first += step) action(first, std::min(step, end - first));
  };
  for (std::int64_t begin = 0; begin < panels.inner; begin += group) {
    for_steps(begin, [&](std::int64_t first, std::int64_t inner) {
      float* to = packed + (first - begin) * packed_rows;
      if (from.is_bfloat16) {
        pack_rows(from.lines<BFloat16>(row, panels.first_inner + first), rows, inner, to);
      } else {
        pack_rows(from.lines<float>(row, panels.first_inner + first), rows, inner, to);
      }
    });
    // All steps of a group for a strip of columns, while its sums are in cache.
    for_panels([&](const Panel& panel, float* sums, std::int64_t stride) {
      for (std::int64_t column = 0; column < panel.columns; column += kStripColumns) {
        const float* strip = panel.packed + column / kStripColumns * panels.strip_stride();
        for_steps(begin, [&](std::int64_t first, std::int64_t inner) {
          multiply_strips({rows, std::min(kStripColumns, panel.columns - column), inner, packed + (first - begin) * packed_rows,
                           strip + first * kStripColumns, panels.strip_stride(), sums + column, stride,
                           panels.first_inner + first > 0 || products.add});
        });
      }
    });
  }
  if (panels.first_inner + panels.inner < products.k) return;
  for_panels([&](const Panel& panel, float* sums, std::int64_t stride) {
    const float* bias = products.rights[panel.right].bias;
    const Output& out = output_of(panel);
    for (std::int64_t i = 0; i < rows && (bias != nullptr || rounds); ++i) {
      float* line = sums + i * stride;
      if (bias != nullptr) {
        for (std::int64_t j = 0; j < panel.columns; ++j) line[j] += bias[panel.first_column + j];
      }
      if (rounds) simd().narrow(line, out.rounded + (row + i) * out.stride + panel.first_column, panel.columns);
    }
  });
}

using RowPieces = c10::SmallVector<RowPiece, 64>;

void add_pieces(RowPieces& pieces, const RowPiece& whole, std::int64_t rows) {
  for (std::int64_t row = 0; row < whole.rows; row += rows)
    pieces.push_back({whole.left, whole.row + row, std::min(rows, whole.rows - row)});
}

// Blocks of rows; the last ones are smaller, so that threads end at about the same time.
RowPieces row_pieces(const BlockProducts& products) {
  const std::int64_t threads = at::get_num_threads();
  RowPieces blocks, pieces;
  for (std::size_t left = 0; left < products.lefts.size(); ++left) {
    const std::int64_t m = products.lefts[left].m;
    const std::int64_t count = rounded_up(divided_up(m, kBlockRows), std::min(threads, divided_up(m, kStripRows)));
    add_pieces(blocks, {left, 0, m}, rounded_up(divided_up(m, count), kStripRows));
  }
  const std::int64_t whole = std::max<std::int64_t>(static_cast<std::int64_t>(blocks.size()) - threads, 0);
  pieces.append(blocks.begin(), blocks.begin() + whole);
  for (auto block = blocks.begin() + whole; block != blocks.end(); ++block)
    add_pieces(pieces, *block, rounded_up(divided_up(block->rows, threads > 1 ? kTailPieces : 1), kStripRows));
  return pieces;
}

void multiply_panels(const BlockProducts& products, const Panels& panels) {
  if (panels.list.empty()) return;
  pack_panels(products, panels);
  const RowPieces pieces = row_pieces(products);
  for_each_piece(static_cast<std::int64_t>(pieces.size()),
                 [&](std::int64_t i) { multiply_rows(products, panels, pieces[static_cast<std::size_t>(i)]); });
}

void run_by_blocks(const BlockProducts& products) {
  thread_local ScratchMemory<float> memory;  // the calling thread's, which the others read and fill
  for (std::int64_t first_inner = 0; first_inner < products.k; first_inner += kPanelInner) {
    const std::int64_t inner = std::min(kPanelInner, products.k - first_inner);
    Panels panels{first_inner, inner, {}};
    std::int64_t needed = 0;
    for (const Right& right : products.rights) needed += rounded_up(right.n, kStripColumns) * inner;
    float* const begin = memory.at_least(std::min(needed, rounded_up(kPanelFloats, kStripColumns * inner)));
    float* place = begin;
    for (std::size_t right = 0; right < products.rights.size(); ++right) {
      const std::int64_t n = products.rights[right].n, width = part_of(n, kPanelFloats / inner, kStripColumns);
      for (std::int64_t column = 0; column < n; column += width) {
        const std::int64_t columns = std::min(width, n - column), size = rounded_up(columns, kStripColumns) * inner;
        if (place > begin && place - begin + size > kPanelFloats) {
          multiply_panels(products, panels);
          panels.list.clear();
          place = begin;
        }
        panels.list.push_back({right, column, columns, place});
        place += size;
      }
    }
    multiply_panels(products, panels);
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

void multiply_by_blocks(at::ArrayRef<Tensor> a, at::ArrayRef<Tensor> b, at::ArrayRef<Tensor> biases, at::ArrayRef<Tensor> outs,
                        bool add) {
  BlockProducts products{{}, {}, {}, a[0].size(1), add};
  for (const Tensor& left : a) products.lefts.push_back({operand_of(left, 0), left.size(0)});
  c10::SmallVector<Tensor, 4> held;
  for (std::size_t i = 0; i < b.size(); ++i) {
    held.push_back(biases[i].defined() ? biases[i].to(at::kFloat).contiguous() : Tensor());
    products.rights.push_back({operand_of(b[i], 1), b[i].size(1), pointer<float>(held.back())});
  }
  // Sums that are to be rounded and have to wait for further panels.
  c10::SmallVector<Tensor, 4> waiting;
  for (const Tensor& out : outs) {
    const bool rounds = out.scalar_type() != at::kFloat, waits = rounds && products.k > kPanelInner;
    waiting.push_back(waits ? at::empty(out.sizes(), out.options().dtype(at::kFloat)) : Tensor());
    const Tensor& sums = waits ? waiting.back() : out;
    products.outputs.push_back({rounds && !waits ? nullptr : pointer<float>(sums),
                                rounds && !waits ? pointer<BFloat16>(out) : nullptr, sums.stride(0)});
  }
  run_by_blocks(products);
  for (std::size_t i = 0; i < outs.size(); ++i) {
    if (waiting[i].defined()) outs[i].copy_(waiting[i]);
  }
}

}  // namespace oumi::kernels::cpu
