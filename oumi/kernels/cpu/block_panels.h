// What products by blocks (matmul_float32.h) are made of: panels of the right operands, packed for all threads, and blocks of
// the left operands' rows, which a thread packs and multiplies by them.
#pragma once

#include <c10/util/SmallVector.h>

#include <cstddef>
#include <cstdint>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/simd_blocks.h"

namespace oumi::kernels::cpu::blocks {

// Rows of the left operand by inner size stay in the second-level cache (110 KiB a step), a strip of the right one by inner
// size in the first (18 KiB).
constexpr std::int64_t kBlockRows = 96, kBlockInner = 288;
// What a low-rank term may add to the inner values that are multiplied at once.
constexpr std::int64_t kLowRank = 64;

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

using Groups = c10::SmallVector<Group, 4>;

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

// Strips of a panel's segment.
struct PackingPiece {
  const Panel* panel;
  const Segment* segment;
  std::int64_t first_strip;
};
using PackingPieces = c10::SmallVector<PackingPiece, 32>;

// Rows of a left operand from `row` on, and the block of rows that they belong to.
struct RowPiece {
  std::size_t left;
  std::int64_t row, rows;
  std::size_t block;
};

// The inner values [begin, end) of all terms one after another.
c10::SmallVector<Segment, 4> segments_of(const BlockProducts& products, std::int64_t begin, std::int64_t end);

// How those panels' inner values are multiplied.
Groups groups_of(const Panels& panels);

// How those panels are packed. Pieces point into `panels`.
PackingPieces packing_pieces(const Panels& panels);

void pack_piece(const BlockProducts& products, const PackingPiece& piece);

// Those rows of all columns of the panels, which are packed.
void multiply_rows(const BlockProducts& products, const Panels& panels, const Groups& groups, const RowPiece& piece);

}  // namespace oumi::kernels::cpu::blocks
