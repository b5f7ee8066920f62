#include "oumi/kernels/cpu/block_panels.h"

#include <algorithm>

#include "oumi/kernels/cpu/scratch.h"

namespace oumi::kernels::cpu::blocks {
namespace {

// At most so many inner values of the left operand are packed at a time (240 KiB): sums are read and written once for all of
// them. Two steps, and what a low-rank term adds to them.
constexpr std::int64_t kGroupInner = 2 * kBlockInner + kLowRank;
// For so few columns of the right operand, rows of the left one are read where they lie.
constexpr std::int64_t kThinColumns = 48;
// Strips of the right operand that a thread packs at a time.
constexpr std::int64_t kPackedStrips = 8;
// What packing rows may write beyond a buffer's end.
constexpr std::int64_t kSpare = 8;

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

}  // namespace

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

Groups groups_of(const Panels& panels) {
  Groups groups;
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

void multiply_rows(const BlockProducts& products, const Panels& panels, const Groups& groups, const RowPiece& piece) {
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

}  // namespace oumi::kernels::cpu::blocks
