#include "oumi/data/text/packing.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <queue>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

void check_capacity(std::int64_t capacity) {
  if (capacity < 1) throw UserError("packing", cat("expected rows of at least one token, got ", capacity));
}

// Rows by the room left in them. Lengths are whole numbers up to the capacity, so a tree over them answers "the least room that
// still holds this" in O(log capacity).
class OpenRows {
 public:
  explicit OpenRows(std::int64_t capacity) : waiting_(static_cast<std::size_t>(capacity) + 1) {}

  // The row with the least room of at least `size`; the oldest of several. -1 when there is none.
  std::int64_t take(std::int64_t size) {
    const auto room = rooms_.lower_bound(size);
    if (room == rooms_.end()) return -1;
    auto& queue = waiting_[static_cast<std::size_t>(room->first)];
    const std::int64_t row = queue.front();
    queue.pop();
    if (--room->second == 0) rooms_.erase(room);
    return row;
  }
  void put(std::int64_t row, std::int64_t room) {
    if (room == 0) return;
    waiting_[static_cast<std::size_t>(room)].push(row);
    ++rooms_[room];
  }

 private:
  std::map<std::int64_t, std::int64_t> rooms_;     // room -> number of rows
  std::vector<std::queue<std::int64_t>> waiting_;  // rows by their room
};

}  // namespace

PackingStrategy parse_packing_strategy(const std::string& name, const std::string& key) {
  const std::string lower = to_lower(name);
  if (lower == "bfd") return PackingStrategy::kBestFit;
  if (lower == "bfd_split") return PackingStrategy::kBestFitSplit;
  if (lower == "wrapped") return PackingStrategy::kWrapped;
  if (lower == "concatenated") return PackingStrategy::kConcatenated;
  throw UserError(key, "expected bfd, bfd_split, wrapped or concatenated, got '" + name + "'",
                  suggestion(name, {"bfd", "bfd_split", "wrapped", "concatenated"}));
}

std::vector<PackedRow> pack_best_fit(std::span<const std::int64_t> lengths, const BestFitOptions& options) {
  check_capacity(options.capacity);
  std::vector<PackedPiece> pieces;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    std::int64_t begin = 0;
    do {
      const std::int64_t size = std::min(lengths[i] - begin, options.capacity);
      if (size > 0) pieces.push_back({static_cast<std::int64_t>(i), begin, size});
      begin += size;
    } while (options.split && begin < lengths[i]);
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const PackedPiece& a, const PackedPiece& b) { return a.size > b.size; });
  std::vector<PackedRow> rows;
  std::vector<std::int64_t> used;
  OpenRows open(options.capacity);
  for (const PackedPiece& piece : pieces) {
    std::int64_t row = open.take(piece.size);
    if (row < 0) {
      row = static_cast<std::int64_t>(rows.size());
      rows.emplace_back();
      used.push_back(0);
    }
    rows[static_cast<std::size_t>(row)].push_back(piece);
    std::int64_t& tokens = used[static_cast<std::size_t>(row)];
    tokens += piece.size;
    open.put(row, options.capacity - tokens);
  }
  return rows;
}

std::vector<PackedRow> pack_wrapped(std::span<const std::int64_t> lengths, std::int64_t capacity, std::int64_t separator) {
  check_capacity(capacity);
  std::vector<PackedRow> rows;
  std::int64_t room = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::int64_t total = lengths[i] + separator;
    for (std::int64_t begin = 0; begin < total;) {
      if (room == 0) {
        rows.emplace_back();
        room = capacity;
      }
      const std::int64_t size = std::min(room, total - begin);
      rows.back().push_back({static_cast<std::int64_t>(i), begin, size});
      begin += size;
      room -= size;
    }
  }
  return rows;
}

std::vector<PackedRow> pack_greedily(std::span<const std::int64_t> lengths, const GreedyPackOptions& options) {
  check_capacity(options.capacity);
  std::vector<PackedRow> rows;
  PackedRow row;
  std::int64_t used = 0;
  const auto close = [&] {
    if (!row.empty()) rows.push_back(std::move(row));
    row.clear();
    used = 0;
  };
  // Appends a piece, beginning new rows where this one is full.
  const auto append = [&](PackedPiece piece) {
    while (piece.size > 0) {
      const std::int64_t size = std::min(piece.size, options.capacity - used);
      row.push_back({piece.sample, piece.begin, size});
      used += size;
      piece.begin += size;
      piece.size -= size;
      if (used == options.capacity) close();
    }
  };
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::int64_t length = lengths[i];
    if (length == 0 || (length > options.capacity && !options.split_samples)) continue;
    const std::int64_t separator = options.separator && used > 0 ? 1 : 0;
    if (used + separator + length > options.capacity && !options.split_samples) {
      close();
    } else if (separator > 0) {
      append({-1, 0, 1});
    }
    append({static_cast<std::int64_t>(i), 0, length});
  }
  close();
  return rows;
}

}  // namespace oumi
