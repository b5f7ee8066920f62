#include "oumi/kernels/cpu/matmul_float32.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/scratch.h"
#include "oumi/kernels/cpu/simd_blocks.h"

namespace oumi::kernels::cpu {
namespace {

// Rows of the left operand by inner size stay in the second-level cache (110 KiB a step), a strip of the right one by inner
// size in the first (18 KiB).
constexpr std::int64_t kBlockRows = 96, kBlockInner = 288;
// At most so many inner values of the left operand are packed at a time (240 KiB): sums are read and written once for all of
// them. Two steps, and what a low-rank term adds to them.
constexpr std::int64_t kLowRank = 64, kGroupInner = 2 * kBlockInner + kLowRank;
// The right operand is packed in panels of as many inner values and, for all threads together, at most so many floats
// (1.4 MiB). All columns of a layer that is not wide are one panel then, and the left operand is packed once. With 8 MiB and
// panels of few columns, the shapes of SmolLM2-135M took a tenth longer.
constexpr std::int64_t kPanelFloats = 352 << 10;
// How many pieces the last block of each thread is cut into.
constexpr std::int64_t kTailPieces = 4;
// For so few columns of the right operand, rows of the left one are read where they lie.
constexpr std::int64_t kThinColumns = 48;
// Strips of the right operand that a thread packs at a time.
constexpr std::int64_t kPackedStrips = 8;
// What packing rows may write beyond a buffer's end.
constexpr std::int64_t kSpare = 8;

// The size of equal parts of `whole`, none larger than `most`, in steps.
constexpr std::int64_t part_of(std::int64_t whole, std::int64_t most, std::int64_t step) {
  return rounded_up(divided_up(whole, divided_up(whole, most)), step);
}

// How many inner values of `whole` a panel has.
constexpr std::int64_t panel_inner(std::int64_t whole) {
  const std::int64_t beside_low_rank = std::max<std::int64_t>(whole - kLowRank, 1);
  return divided_up(whole, divided_up(beside_low_rank, 2 * kBlockInner));
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

// Operands of an inner size. `lefts` and `rights` have one element for all outputs or one for each.
struct Term {
  c10::SmallVector<Operand, 4> lefts, rights;
  std::int64_t k;

  const Operand& left(std::size_t output) const { return lefts[lefts.size() == 1 ? 0 : output]; }
  const Operand& right(std::size_t output) const { return rights[rights.size() == 1 ? 0 : output]; }
};

struct Output {
  float* sums;  // one of the two
  BFloat16* rounded;
  std::int64_t stride;  // of its rows
  const float* bias;    // [columns] or null
};

// Outputs are the sums of their terms: of several left operands by one right one, or of one left operand by several right ones.
// Output i belongs to the left operand i or to the right operand i.
struct BlockProducts {
  c10::SmallVector<Term, 4> terms;
  c10::SmallVector<std::int64_t, 4> rows, columns;  // of the left operands, of the right ones
  c10::SmallVector<Output, 4> outputs;
  bool add;

  std::int64_t inner() const {
    std::int64_t sum = 0;
    for (const Term& term : terms) sum += term.k;
    return sum;
  }
};

// A part of a right operand, packed for all threads: for each segment [strip][inner][kStripColumns].
struct Panel {
  std::size_t right;
  std::int64_t first_column, columns;
  float* packed;

  std::int64_t strips() const { return divided_up(columns, kStripColumns); }
};

// Inner values of one term.
struct Segment {
  std::size_t term;
  std::int64_t first, inner;
  std::int64_t before;  // inner values of the segments before it

  float* strip(const Panel& panel, std::int64_t index) const {
    return panel.packed + (panel.strips() * before + index * inner) * kStripColumns;
  }
};

// Inner values that are multiplied at once: a part of a segment.
struct Step {
  Segment segment;
  std::int64_t first, inner;  // `first` in the segment
};

// Steps for which sums stay in cache.
using Group = c10::SmallVector<Step, 4>;

// The panels that are in memory at once, of the same inner values.
struct Panels {
  c10::SmallVector<Segment, 4> segments;
  bool is_first, is_last;  // of the inner values
  c10::SmallVector<Panel, 8> list;

  std::int64_t columns() const {
    std::int64_t sum = 0;
    for (const Panel& panel : list) sum += panel.columns;
    return sum;
  }
  std::int64_t inner() const { return segments.back().before + segments.back().inner; }
};

// The inner values [begin, end) of all terms one after another.
c10::SmallVector<Segment, 4> segments_of(const BlockProducts& products, std::int64_t begin, std::int64_t end) {
  c10::SmallVector<Segment, 4> segments;
  std::int64_t term_begin = 0;
  for (std::size_t term = 0; term < products.terms.size(); ++term) {
    const std::int64_t term_end = term_begin + products.terms[term].k;
    const std::int64_t first = std::max(begin, term_begin), last = std::min(end, term_end);
    if (first < last) segments.push_back({term, first - term_begin, last - first, first - begin});
    term_begin = term_end;
  }
  return segments;
}

c10::SmallVector<Group, 4> groups_of(const Panels& panels) {
  c10::SmallVector<Group, 4> groups;
  std::int64_t size = kGroupInner;
  for (const Segment& segment : panels.segments) {
    const std::int64_t step = part_of(segment.inner, kBlockInner, 1);
    for (std::int64_t first = 0; first < segment.inner; first += step) {
      const std::int64_t inner = std::min(step, segment.inner - first);
      if (size + inner > kGroupInner) {
        groups.emplace_back();
        size = 0;
      }
      groups.back().push_back({segment, first, inner});
      size += inner;
    }
  }
  return groups;
}

// `count` lines of an operand, from `line` and `first` on, by pack_rows or pack_columns.
template <class T>
using Packing = void (*)(Lines<T>, std::int64_t count, std::int64_t inner, float* to);

void pack(const Operand& from, std::int64_t line, std::int64_t count, std::int64_t first, std::int64_t inner, float* to,
          Packing<float> plain, Packing<BFloat16> widening) {
  if (from.is_bfloat16) {
    widening(from.lines<BFloat16>(line, first), count, inner, to);
  } else {
    plain(from.lines<float>(line, first), count, inner, to);
  }
}

// Strips of a panel's segment.
struct PackingPiece {
  const Panel* panel;
  const Segment* segment;
  std::int64_t first_strip;
};
using PackingPieces = c10::SmallVector<PackingPiece, 32>;

PackingPieces packing_pieces(const Panels& panels) {
  PackingPieces pieces;
  for (const Panel& panel : panels.list) {
    for (const Segment& segment : panels.segments) {
      for (std::int64_t strip = 0; strip < panel.strips(); strip += kPackedStrips) pieces.push_back({&panel, &segment, strip});
    }
  }
  return pieces;
}

void pack_piece(const BlockProducts& products, const PackingPiece& piece) {
  const auto& [panel, segment, strip] = piece;
  const std::int64_t column = strip * kStripColumns, columns = std::min(kPackedStrips * kStripColumns, panel->columns - column);
  pack(products.terms[segment->term].right(panel->right), panel->first_column + column, columns, segment->first, segment->inner,
       segment->strip(*panel, strip), pack_columns, pack_columns);
}

// Rows of a left operand from `row` on, and the block of rows that they belong to.
struct RowPiece {
  std::size_t left;
  std::int64_t row, rows;
  std::size_t block;
};

// A left operand that each right one has its own of, or that is used too little, is not packed.
bool lies_where_it_is_read(const BlockProducts& products, const Panels& panels, const RowPiece& piece, const Step& step) {
  const Term& term = products.terms[step.segment.term];
  return !term.left(piece.left).is_bfloat16 &&
         ((term.lefts.size() > 1 && term.rights.size() > 1) || panels.columns() <= kThinColumns);
}

// A strip of columns of `out` (+)= the left operand's rows where they lie.
void multiply_in_place(const Operand& left, const RowPiece& piece, const Step& step, StripProduct product) {
  const Lines<float> lines = left.lines<float>(piece.row, step.segment.first + step.first);
  product.left = lines.data;
  const bool transposed = lines.line_stride == 1;
  multiply_plain({product, transposed ? lines.inner_stride : lines.line_stride, transposed});
}

// Those rows of the panels' columns.
void multiply_rows(const BlockProducts& products, const Panels& panels, const c10::SmallVector<Group, 4>& groups,
                   const RowPiece& piece) {
  thread_local ScratchMemory<float> left_memory, sums_memory;
  const auto& [left, row, rows, block] = piece;
  const std::int64_t packed_rows = rounded_up(rows, kStripRows);
  float* packed = left_memory.at_least(packed_rows * std::min(kGroupInner, panels.inner()) + kSpare);
  // Sums that are to be rounded wait here, panel after panel.
  const bool rounds = products.outputs[left + panels.list[0].right].rounded != nullptr;
  float* waiting = rounds ? sums_memory.at_least(rows * panels.columns()) : nullptr;
  const auto for_panels = [&](auto&& action) {
    float* sums = waiting;
    for (const Panel& panel : panels.list) {
      const Output& out = products.outputs[left + panel.right];
      action(panel, out, rounds ? sums : out.sums + row * out.stride + panel.first_column, rounds ? panel.columns : out.stride);
      if (rounds) sums += rows * panel.columns;
    }
  };
  bool adds = products.add || !panels.is_first;
  for (const Group& group : groups) {
    float* to = packed;
    for (const Step& step : group) {
      if (!lies_where_it_is_read(products, panels, piece, step)) {
        pack(products.terms[step.segment.term].left(left), row, rows, step.segment.first + step.first, step.inner, to,
             pack_rows, pack_rows);
      }
      to += packed_rows * step.inner;
    }
    // All steps of a group for a strip of columns, while its sums are in cache.
    for_panels([&](const Panel& panel, const Output&, float* sums, std::int64_t stride) {
      for (std::int64_t strip = 0; strip < panel.strips(); ++strip) {
        const std::int64_t column = strip * kStripColumns;
        const float* from = packed;
        bool adds_step = adds;
        for (const Step& step : group) {
          const StripProduct product{rows,
                                     std::min(kStripColumns, panel.columns - column),
                                     step.inner,
                                     from,
                                     step.segment.strip(panel, strip) + step.first * kStripColumns,
                                     0,
                                     sums + column,
                                     stride,
                                     adds_step};
          if (lies_where_it_is_read(products, panels, piece, step)) {
            multiply_in_place(products.terms[step.segment.term].left(left + panel.right), piece, step, product);
          } else {
            multiply_strips(product);
          }
          from += packed_rows * step.inner;
          adds_step = true;
        }
      }
    });
    adds = true;
  }
  if (!panels.is_last) return;
  for_panels([&](const Panel& panel, const Output& out, float* sums, std::int64_t stride) {
    for (std::int64_t i = 0; i < rows && (out.bias != nullptr || rounds); ++i) {
      float* line = sums + i * stride;
      if (out.bias != nullptr) {
        for (std::int64_t j = 0; j < panel.columns; ++j) line[j] += out.bias[panel.first_column + j];
      }
      if (rounds) simd().narrow(line, out.rounded + (row + i) * out.stride + panel.first_column, panel.columns);
    }
  });
}

using RowPieces = c10::SmallVector<RowPiece, 32>;

RowPieces blocks_of_rows(const BlockProducts& products) {
  const std::int64_t threads = at::get_num_threads();
  RowPieces blocks;
  for (std::size_t left = 0; left < products.rows.size(); ++left) {
    const std::int64_t m = products.rows[left];
    const std::int64_t count = rounded_up(divided_up(m, kBlockRows), std::min(threads, divided_up(m, kStripRows)));
    const std::int64_t rows = rounded_up(divided_up(m, count), kStripRows);
    for (std::int64_t row = 0; row < m; row += rows) blocks.push_back({left, row, std::min(rows, m - row), blocks.size()});
  }
  return blocks;
}

// The same rows, but each thread's last block in pieces, so that threads end at about the same time.
RowPieces with_small_last(const RowPieces& blocks) {
  const std::size_t threads = static_cast<std::size_t>(at::get_num_threads());
  RowPieces pieces;
  for (const RowPiece& block : blocks) {
    const bool is_last = threads > 1 && block.block + threads >= blocks.size();
    const std::int64_t rows = rounded_up(divided_up(block.rows, is_last ? kTailPieces : 1), kStripRows);
    for (std::int64_t row = 0; row < block.rows; row += rows)
      pieces.push_back({block.left, block.row + row, std::min(rows, block.rows - row), block.block});
  }
  return pieces;
}

// Panels that are packed, and then multiplied by all rows.
struct Stage {
  explicit Stage(Panels of) : panels(std::move(of)), groups(groups_of(panels)), packing(packing_pieces(panels)) {}

  Panels panels;
  c10::SmallVector<Group, 4> groups;
  PackingPieces packing;
  // Stages of the inner values before these; rows wait for all of them.
  std::int64_t summed_before = 0;
  std::atomic<std::size_t> packed = 0, multiplied = 0;  // pieces that are done
};

// Right operands in panels, column after column for each part of the inner values. Two stages' panels are in memory at once.
std::deque<Stage> stages_of(const BlockProducts& products, float* (&memory)[2]) {
  std::deque<Stage> stages;
  const std::int64_t whole = products.inner(), part = panel_inner(whole);
  for (std::int64_t first = 0; first < whole; first += part) {
    const std::int64_t inner = std::min(part, whole - first), before = static_cast<std::int64_t>(stages.size());
    const Panels none{segments_of(products, first, first + inner), first == 0, first + inner == whole, {}};
    Panels panels = none;
    std::int64_t taken = 0;
    const auto finish = [&] {
      if (panels.list.empty()) return;
      stages.emplace_back(std::move(panels)).summed_before = before;
      panels = none;
      taken = 0;
    };
    for (std::size_t right = 0; right < products.columns.size(); ++right) {
      const std::int64_t n = products.columns[right], width = part_of(n, kPanelFloats / inner, kStripColumns);
      for (std::int64_t column = 0; column < n; column += width) {
        const std::int64_t columns = std::min(width, n - column), size = rounded_up(columns, kStripColumns) * inner;
        if (taken > 0 && taken + size > kPanelFloats) finish();
        panels.list.push_back({right, column, columns, memory[stages.size() % 2] + taken});
        taken += size;
      }
    }
    finish();
  }
  return stages;
}

// What threads do, piece after piece: a thread that is through with a stage's rows packs the next one's panels.
class BlockWork {
 public:
  BlockWork(const BlockProducts& products, std::deque<Stage>& stages)
      : products_(products),
        stages_(stages),
        blocks_(blocks_of_rows(products)),
        last_(with_small_last(blocks_)),
        summed_(blocks_.size()) {
    for (const Stage& stage : stages) count_ += stage.packing.size() + rows_of(stage).size();
  }

  void run() {
    const auto threads = std::min<std::int64_t>(static_cast<std::int64_t>(count_), at::get_num_threads());
    parallel_for(0, threads, 1, [&](std::int64_t, std::int64_t) {
      try {
        run_pieces();
      } catch (...) {
        failed_ = true;
        throw;
      }
    });
  }

 private:
  const RowPieces& rows_of(const Stage& stage) const { return &stage == &stages_.back() ? last_ : blocks_; }

  // Pieces are taken in their order, so what one waits for is done or under way.
  void run_pieces() {
    std::size_t stage = 0, first = 0;  // the stage and its first piece
    for (std::size_t piece; (piece = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      const auto size = [&] { return stages_[stage].packing.size() + rows_of(stages_[stage]).size(); };
      while (piece >= first + size()) first += size(), ++stage;
      const std::size_t packing = stages_[stage].packing.size();
      if (piece - first < packing) {
        pack_of(stage, piece - first);
      } else {
        multiply_of(stages_[stage], piece - first - packing);
      }
      if (failed_.load(std::memory_order_relaxed)) return;
    }
  }

  void pack_of(std::size_t index, std::size_t piece) {
    if (index >= 2) wait_for(stages_[index - 2].multiplied, rows_of(stages_[index - 2]).size());
    Stage& stage = stages_[index];
    pack_piece(products_, stage.packing[piece]);
    stage.packed.fetch_add(1, std::memory_order_release);
  }

  void multiply_of(Stage& stage, std::size_t index) {
    const RowPiece& piece = rows_of(stage)[index];
    wait_for(stage.packed, stage.packing.size());
    wait_for(summed_[piece.block], static_cast<std::size_t>(stage.summed_before));
    if (failed_.load(std::memory_order_relaxed)) return;
    multiply_rows(products_, stage.panels, stage.groups, piece);
    summed_[piece.block].fetch_add(1, std::memory_order_release);
    stage.multiplied.fetch_add(1, std::memory_order_release);
  }

  void wait_for(const std::atomic<std::size_t>& done, std::size_t wanted) const {
    for (int tries = 0; done.load(std::memory_order_acquire) < wanted && !failed_.load(std::memory_order_relaxed); ++tries) {
      if (tries >= 256) std::this_thread::yield();
    }
  }

  const BlockProducts& products_;
  std::deque<Stage>& stages_;
  const RowPieces blocks_, last_;
  std::vector<std::atomic<std::size_t>> summed_;  // stages that a block of rows is through with
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
};

// The floats of a stage's panels, of all stages the most.
std::int64_t floats_of_panels(const BlockProducts& products) {
  const std::int64_t inner = panel_inner(products.inner());
  std::int64_t all = 0;
  for (const std::int64_t columns : products.columns) all += rounded_up(columns, kStripColumns) * inner;
  return std::min(all, kPanelFloats + kStripColumns * inner);
}

void run_by_blocks(const BlockProducts& products) {
  thread_local ScratchMemory<float> memory[2];  // the calling thread's, which the others read and fill
  const std::int64_t size = floats_of_panels(products);
  float* panels[2] = {memory[0].at_least(size), memory[1].at_least(size)};
  std::deque<Stage> stages = stages_of(products, panels);
  BlockWork(products, stages).run();
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

void multiply_by_blocks(at::ArrayRef<ProductTerm> terms, at::ArrayRef<Tensor> biases, at::ArrayRef<Tensor> outs, bool add) {
  BlockProducts products{{}, {}, {}, {}, add};
  for (const Tensor& left : terms[0].a) products.rows.push_back(left.size(0));
  for (const Tensor& right : terms[0].b) products.columns.push_back(right.size(1));
  for (const ProductTerm& term : terms) {
    Term& made = products.terms.emplace_back();
    made.k = term.a[0].size(1);
    for (const Tensor& left : term.a) made.lefts.push_back(operand_of(left, 0));
    for (const Tensor& right : term.b) made.rights.push_back(operand_of(right, 1));
  }
  // `waiting`: sums that are to be rounded and have to wait for further panels.
  c10::SmallVector<Tensor, 4> wide_biases, waiting;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Tensor& out = outs[i];
    const bool rounds = out.scalar_type() != at::kFloat, waits = rounds && products.inner() > panel_inner(products.inner());
    waiting.push_back(waits ? at::empty(out.sizes(), out.options().dtype(at::kFloat)) : Tensor());
    wide_biases.push_back(!biases.empty() && biases[i].defined() ? biases[i].to(at::kFloat).contiguous() : Tensor());
    const Tensor& sums = waits ? waiting.back() : out;
    products.outputs.push_back({rounds && !waits ? nullptr : pointer<float>(sums),
                                rounds && !waits ? pointer<BFloat16>(out) : nullptr, sums.stride(0),
                                pointer<float>(wide_biases.back())});
  }
  run_by_blocks(products);
  for (std::size_t i = 0; i < outs.size(); ++i) {
    if (waiting[i].defined()) outs[i].copy_(waiting[i]);
  }
}

}  // namespace oumi::kernels::cpu
