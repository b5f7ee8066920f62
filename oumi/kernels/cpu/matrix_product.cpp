#include "oumi/kernels/cpu/matrix_product.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "oumi/kernels/cpu/dispatch.h"
#include "oumi/kernels/cpu/matmul_bfloat16.h"
#include "oumi/kernels/cpu/matmul_float32.h"

namespace oumi::kernels::cpu {
namespace {

bool is_float_or_bfloat16(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

// Undefined, or what a fused product adds.
bool fits(const Tensor& bias, std::int64_t columns) {
  return !bias.defined() || (has_loops(bias) && bias.dim() == 1 && bias.size(0) == columns);
}

bool tiles_take(const Tensor& a, const Tensor& b, at::ScalarType type, const Tensor& bias) {
  return type == at::kBFloat16 && goes_by_tiles(a, b) && fits(bias, b.size(1)) &&
         (!bias.defined() || bias.scalar_type() == at::kBFloat16);
}

bool blocks_take(const Tensor& a, const Tensor& b, at::ScalarType type, const Tensor& bias) {
  return is_float_or_bfloat16(type) && goes_by_blocks(a, b) && fits(bias, b.size(1));
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
  if (tiles_take(a, b, type, added)) {
    const Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
    multiply_by_tiles(a, b, added, out);
    return out;
  }
  if (blocks_take(a, b, type, added)) {
    const Tensor out = at::empty({a.size(0), b.size(1)}, a.options().dtype(type));
    multiply_by_blocks(a, b, added, out, /*add=*/false);
    return out;
  }
  if (is_widened(a, b, type)) {
    const Tensor left = a.to(at::kFloat), right = b.to(at::kFloat);
    return (added.defined() ? at::addmm(added.to(at::kFloat), left, right) : at::mm(left, right)).to(type);
  }
  return added.defined() ? at::addmm(added, a, b) : at::mm(a, b);
}

void product_into(const Tensor& out, const Tensor& a, const Tensor& b) {
  const at::ScalarType type = out.scalar_type();
  if (tiles_take(a, b, type, {})) {
    multiply_by_tiles(a, b, {}, out);
  } else if (blocks_take(a, b, type, {})) {
    multiply_by_blocks(a, b, {}, out, /*add=*/false);
  } else if (is_widened(a, b, type)) {
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
    multiply_by_blocks(a, b, {}, sums, /*add=*/true);
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
