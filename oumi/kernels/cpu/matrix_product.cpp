#include "oumi/kernels/cpu/matrix_product.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/few_rows.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"
#include "oumi/kernels/cpu/matmul_float32.h"

namespace oumi::kernels::cpu {
namespace {

bool is_float_or_bfloat16(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

// Undefined, or what a fused product adds.
bool fits(const Tensor& bias, std::int64_t columns) {
  return !bias.defined() || (has_loops(bias) && bias.dim() == 1 && bias.size(0) == columns);
}

bool few_rows_take(const Tensor& a, const Tensor& b, at::ScalarType type, const Tensor& bias) {
  return type == a.scalar_type() && has_few_rows(a, b) && fits(bias, b.size(1));
}

bool tiles_take(const Tensor& a, const Tensor& b, at::ScalarType type, const Tensor& bias) {
  return type == at::kBFloat16 && goes_by_tiles(a, b) && fits(bias, b.size(1)) &&
         (!bias.defined() || bias.scalar_type() == at::kBFloat16);
}

bool blocks_take(const Tensor& a, const Tensor& b, at::ScalarType type, const Tensor& bias) {
  return is_float_or_bfloat16(type) && !few_rows_take(a, b, type, bias) && goes_by_blocks(a, b) && fits(bias, b.size(1));
}

// Whether LibTorch gets float32 values: of different types, or of bfloat16 without instructions for it.
bool is_widened(const Tensor& a, const Tensor& b, at::ScalarType type) {
  if (!has_loops(a) || !has_loops(b) || !is_float_or_bfloat16(type)) return false;
  const bool same = a.scalar_type() == b.scalar_type() && a.scalar_type() == type;
  return !same || (type == at::kBFloat16 && !has_bfloat16_products());
}

}  // namespace

Tensor product(const Tensor& a, const Tensor& b, at::ScalarType type, const std::optional<Tensor>& bias) {
  const Tensor added = bias.value_or(Tensor());
  if (few_rows_take(a, b, type, added)) return multiply_few_rows(a, b, added);
  if (tiles_take(a, b, type, added)) {
    const Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
    multiply_by_tiles(a, b, added, out);
    return out;
  }
  if (blocks_take(a, b, type, added)) {
    const Tensor out = at::empty({a.size(0), b.size(1)}, a.options().dtype(type));
    multiply_by_blocks(ProductTerm{a, b}, added, out, /*add=*/false);
    return out;
  }
  if (is_widened(a, b, type)) {
    const Tensor left = a.to(at::kFloat), right = b.to(at::kFloat);
    return (added.defined() ? at::addmm(added.to(at::kFloat), left, right) : at::mm(left, right)).to(type);
  }
  return added.defined() ? at::addmm(added, a, b) : at::mm(a, b);
}

std::vector<Tensor> products(at::ArrayRef<Tensor> a, at::ArrayRef<Tensor> b, at::ArrayRef<at::ScalarType> types,
                             at::ArrayRef<Tensor> biases) {
  const auto left = [&](std::size_t i) -> const Tensor& { return a[a.size() == 1 ? 0 : i]; };
  const auto right = [&](std::size_t i) -> const Tensor& { return b[b.size() == 1 ? 0 : i]; };
  std::vector<Tensor> outs;
  bool by_blocks = true;
  for (std::size_t i = 0; i < types.size(); ++i) {
    // One left operand's results wait together for rounding; a bias belongs to a right one.
    const bool fits_together = a.size() == 1 ? types[i] == types[0] : !biases[i].defined();
    by_blocks = by_blocks && fits_together && !tiles_take(left(i), right(i), types[i], biases[i]) &&
                blocks_take(left(i), right(i), types[i], biases[i]);
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    outs.push_back(by_blocks ? at::empty({left(i).size(0), right(i).size(1)}, left(i).options().dtype(types[i]))
                             : product(left(i), right(i), types[i], biases[i]));
  }
  if (by_blocks) multiply_by_blocks(ProductTerm{a, b}, biases, outs, /*add=*/false);
  return outs;
}

Tensor sum_of_products(at::ArrayRef<Tensor> a, at::ArrayRef<Tensor> b, at::ScalarType type) {
  bool by_blocks = true;
  std::vector<ProductTerm> terms;
  for (std::size_t i = 0; i < a.size(); ++i) {
    by_blocks = by_blocks && !tiles_take(a[i], b[i], type, {}) && blocks_take(a[i], b[i], type, {});
    terms.push_back({a[i], b[i]});
  }
  if (by_blocks) {
    const Tensor sum = at::empty({a[0].size(0), b[0].size(1)}, a[0].options().dtype(type));
    multiply_by_blocks(terms, {}, sum, /*add=*/false);
    return sum;
  }
  Tensor sum = product(a[0], b[0], type);
  for (std::size_t i = 1; i < a.size(); ++i) sum += product(a[i], b[i], type);
  return sum;
}

void product_into(const Tensor& out, const Tensor& a, const Tensor& b) {
  const at::ScalarType type = out.scalar_type();
  if (tiles_take(a, b, type, {})) {
    multiply_by_tiles(a, b, {}, out);
  } else if (blocks_take(a, b, type, {})) {
    multiply_by_blocks(ProductTerm{a, b}, {}, out, /*add=*/false);
  } else if (few_rows_take(a, b, type, {}) || is_widened(a, b, type)) {
    out.copy_(product(a, b, type));
  } else {
    Tensor result = out;
    at::mm_out(result, a, b);
  }
}

void add_product(const Tensor& sums, const Tensor& a, const Tensor& b) {
  if (sums.scalar_type() == at::kFloat && goes_by_tiles(a, b)) {
    add_by_tiles(sums, a, b);
  } else if (sums.scalar_type() == at::kFloat && goes_by_blocks(a, b)) {
    multiply_by_blocks(ProductTerm{a, b}, {}, sums, /*add=*/true);
  } else {
    Tensor result = sums;
    if (sums.scalar_type() == a.scalar_type()) {
      result.addmm_(a, b);
    } else {
      result += at::mm(a, b);
    }
  }
}

}  // namespace oumi::kernels::cpu
