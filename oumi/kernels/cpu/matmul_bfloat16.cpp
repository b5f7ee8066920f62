#include "oumi/kernels/cpu/matmul_bfloat16.h"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

// Rows and columns of a tile, and the inner size that is multiplied at a time: the left tile (256 KiB) and one of the right
// stay in the second-level cache.
constexpr std::int64_t kRows = 64, kColumns = 64, kInner = 2048;
// What a tile is filled up to, so that few sizes are compiled.
constexpr std::int64_t kRowStep = 16, kColumnStep = 16, kInnerStep = 64;
// A task's columns: of the right operand, packed once a task; more of them where the left one, too, has to be packed.
constexpr std::int64_t kTaskColumns = 384, kTaskColumnsOfPackedLeft = 768;
// A task's sums (float32), where they wait for further parts of the inner size.
constexpr std::int64_t kTaskSums = 512 * 1024;

struct Product {
  std::int64_t m, n, k;
  StridedMatrix a, b;
  const BFloat16* bias;
  BFloat16* rounded;  // one of the two
  float* added;
  std::int64_t stride;  // of the output's rows

  bool packs_left() const { return !a.is_row_major(); }
};

// Tasks of equal size, as many as threads or a multiple.
struct Plan {
  std::int64_t rows, columns, row_tasks, column_tasks;
};

Plan plan_of(const Product& product) {
  const std::int64_t threads = at::get_num_threads();
  const std::int64_t column_tasks = divided_up(product.n, product.packs_left() ? kTaskColumnsOfPackedLeft : kTaskColumns);
  const std::int64_t columns = rounded_up(divided_up(product.n, column_tasks), 2 * kColumnStep);
  std::int64_t row_tasks = threads / std::gcd(column_tasks, threads);
  const auto rows_of = [&] { return rounded_up(divided_up(product.m, row_tasks), kRows); };
  while (product.k > kInner && rows_of() > kRows && rows_of() * columns > kTaskSums) row_tasks *= 2;
  const std::int64_t rows = rows_of();
  return {rows, columns, divided_up(product.m, rows), divided_up(product.n, columns)};
}

// A thread's tiles: kept between calls, so that a step allocates nothing here.
struct Scratch {
  std::vector<Pair> right;
  std::vector<BFloat16> left;
  std::vector<float> sums;
};

template <class T>
T* at_least(std::vector<T>& buffer, std::int64_t size) {
  if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

// A part of the output.
struct Task {
  std::int64_t first_row, end_row, first_column, end_column;
};

void store(const Product& product, const float* sums, std::int64_t stride, std::int64_t row, std::int64_t rows,
           std::int64_t column, std::int64_t columns) {
  const std::int64_t place = row * product.stride + column;
  if (product.rounded == nullptr) {
    store_added(sums, stride, rows, columns, product.added + place, product.stride);
    return;
  }
  const BFloat16* bias = product.bias == nullptr ? nullptr : product.bias + column;
  store_rounded(sums, stride, rows, columns, bias, product.rounded + place, product.stride);
}

// Packs its columns of the right operand itself, whoever else needs them: packed once for all, they came from further away and
// the whole took longer.
void run_task(const Product& product, const Task& task) {
  thread_local Scratch scratch;
  const std::int64_t columns_of_task = task.end_column - task.first_column, width = rounded_up(columns_of_task, kColumnStep);
  const bool one_part = product.k <= kInner;
  // Without further parts, a tile's sums are done with at once.
  const std::int64_t sums_stride = one_part ? kColumns : width;
  Pair* right = at_least(scratch.right, std::min(rounded_up(product.k, kInnerStep), kInner) / 2 * width);
  float* sums = at_least(scratch.sums, (one_part ? kRows : rounded_up(task.end_row - task.first_row, kRows)) * sums_stride);
  BFloat16* left = at_least(scratch.left, kRows * kInner);
  for (std::int64_t first = 0; first < product.k; first += kInner) {
    const std::int64_t inner = std::min(kInner, product.k - first);
    // A left operand that is read where it lies can't be filled up.
    const std::int64_t filled = product.packs_left() ? rounded_up(inner, kInnerStep) : inner;
    for (std::int64_t column = 0; column < width; column += kColumns) {
      const std::int64_t columns = std::min(kColumns, width - column);
      pack_right(product.b.at(first, task.first_column + column), inner, std::min(columns, columns_of_task - column), filled,
                 columns, right + filled / 2 * column, columns);
    }
    for (std::int64_t row = task.first_row; row < task.end_row; row += kRows) {
      const std::int64_t rows = std::min(kRows, task.end_row - row), filled_rows = rounded_up(rows, kRowStep);
      StridedMatrix a = product.a.at(row, first);
      if (product.packs_left() || filled_rows != rows) {
        pack_left(a, rows, inner, filled_rows, filled, left, filled);
        a = {left, filled, 1};
      }
      for (std::int64_t column = 0; column < width; column += kColumns) {
        const std::int64_t columns = std::min(kColumns, width - column);
        float* tile = one_part ? sums : sums + (row - task.first_row) * sums_stride + column;
        tile_product(filled_rows, columns, filled, a.data, a.row_stride, right + filled / 2 * column, columns, first > 0, tile,
                     sums_stride);
        if (first + inner < product.k) continue;
        store(product, tile, sums_stride, row, rows, task.first_column + column, std::min(columns, columns_of_task - column));
      }
    }
  }
}

StridedMatrix matrix_of(const Tensor& tensor) { return {pointer<BFloat16>(tensor), tensor.stride(0), tensor.stride(1)}; }

void run(const Product& product) {
  const Plan plan = plan_of(product);
  parallel_for(0, plan.row_tasks * plan.column_tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i / plan.column_tasks * plan.rows, column = i % plan.column_tasks * plan.columns;
      run_task(product, {row, std::min(product.m, row + plan.rows), column, std::min(product.n, column + plan.columns)});
    }
  });
}

// What goes_by_tiles.
Product product_of(const Tensor& a, const Tensor& b, const Tensor& out) {
  return {a.size(0), b.size(1), a.size(1), matrix_of(a), matrix_of(b), nullptr, nullptr, nullptr, out.stride(0)};
}

bool has_tile_registers() {
  static const bool has = at::native::cpublas::could_pack(at::kBFloat16);  // could_pack speaks of AMX
  return has;
}

// LibTorch throws where its build or this processor has no such products.
bool try_tile_product() {
  constexpr std::int64_t kSize = 16;
  std::vector<BFloat16> a(kSize * kSize);
  for (std::int64_t i = 0; i < kSize; ++i) a[static_cast<std::size_t>(i * kSize + i)].bits = 0x3f80;  // the identity
  std::vector<Pair> b(kSize / 2 * kSize);
  std::vector<float> c(kSize * kSize), wanted(kSize * kSize);
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t row = 2 * (i / kSize), column = i % kSize;
    for (std::size_t half = 0; half < 2; ++half) {
      const auto value = static_cast<float>((row + half) * 4 + column);  // exact in bfloat16
      wanted[(row + half) * kSize + column] = value;
      b[i] |= (__builtin_bit_cast(std::uint32_t, value) >> 16) << (16 * half);
    }
  }
  try {
    const TileRegisters registers;
    tile_product(kSize, kSize, kSize, a.data(), kSize, b.data(), kSize, false, c.data(), kSize);
  } catch (const c10::Error&) {
    return false;
  }
  return c == wanted;
}

}  // namespace

bool has_tile_products() {
  static const bool has = has_bfloat16_products() && try_tile_product();
  return has;
}

TileRegisters::~TileRegisters() {
  if (has_tile_registers()) at::native::cpublas::brgemm_release();
}

void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const BFloat16* a, std::int64_t a_stride, const Pair* b,
                  std::int64_t b_stride, bool add, float* c, std::int64_t c_stride) {
  at::native::cpublas::brgemm(m, n, k, a_stride, b_stride, c_stride, add, reinterpret_cast<const at::BFloat16*>(a),
                              reinterpret_cast<const at::BFloat16*>(b), c, /*is_vnni=*/true);
}

bool goes_by_tiles(const Tensor& a, const Tensor& b) {
  if (a.scalar_type() != at::kBFloat16 || b.scalar_type() != at::kBFloat16) return false;
  if (!is_packed_matrix(a) || !is_packed_matrix(b) || a.size(1) != b.size(0)) return false;
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  // Fewer rows than packing the right operand is worth, or too small to be worth anything.
  if (m < 32 || n < kColumnStep || k < kInnerStep || m * n * k < (1 << 20)) return false;
  // Pairs of rows: an odd one left over is filled up only where the operand is packed anyway.
  if (k % 2 != 0 && (a.stride(1) == 1 || b.stride(1) != 1)) return false;
  return has_tile_products() && !has_tile_registers();
}

void multiply_by_tiles(const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out) {
  const Tensor packed_bias = bias.defined() ? bias.contiguous() : Tensor();
  Product product = product_of(a, b, out);
  product.bias = pointer<BFloat16>(packed_bias);
  product.rounded = pointer<BFloat16>(out);
  run(product);
}

void add_by_tiles(const Tensor& sums, const Tensor& a, const Tensor& b) {
  Product product = product_of(a, b, sums);
  product.added = pointer<float>(sums);
  run(product);
}

}  // namespace oumi::kernels::cpu
