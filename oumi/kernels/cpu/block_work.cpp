#include "oumi/kernels/cpu/block_work.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "oumi/kernels/cpu/scratch.h"

namespace oumi::kernels::cpu::blocks {
namespace {

// The right operand is packed in panels of as many inner values as are multiplied at once and, for all threads together, at
// most so many floats (1.4 MiB). All columns of a layer that is not wide are one panel then, and the left operand is packed
// once. With 8 MiB and panels of few columns, the shapes of SmolLM2-135M took a tenth longer.
constexpr std::int64_t kPanelFloats = 352 << 10;
// How many pieces the last block of each thread is cut into.
constexpr std::int64_t kTailPieces = 4;

// How many inner values of `whole` a panel has.
constexpr std::int64_t panel_inner(std::int64_t whole) {
  const std::int64_t beside_low_rank = std::max<std::int64_t>(whole - kLowRank, 1);
  return divided_up(whole, divided_up(beside_low_rank, 2 * kBlockInner));
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
  Groups groups;
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

}  // namespace

bool sums_in_parts(std::int64_t inner) { return inner > panel_inner(inner); }

void run(const BlockProducts& products) {
  thread_local ScratchMemory<float> memory[2];  // the calling thread's, which the others read and fill
  const std::int64_t size = floats_of_panels(products);
  float* panels[2] = {memory[0].at_least(size), memory[1].at_least(size)};
  std::deque<Stage> stages = stages_of(products, panels);
  BlockWork(products, stages).run();
}

}  // namespace oumi::kernels::cpu::blocks
