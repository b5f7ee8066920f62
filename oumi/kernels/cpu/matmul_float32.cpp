#include "oumi/kernels/cpu/matmul_float32.h"

#include <ATen/ops/empty.h>
#include <c10/util/SmallVector.h>

#include <string_view>

#include "oumi/kernels/cpu/block_work.h"
#include "oumi/kernels/cpu/dispatch.h"

namespace oumi::kernels::cpu {
namespace {

blocks::Operand operand_of(const Tensor& tensor, std::int64_t line_dimension) {
  return {tensor.const_data_ptr(), tensor.scalar_type() == at::kBFloat16, tensor.stride(line_dimension),
          tensor.stride(1 - line_dimension)};
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
  blocks::BlockProducts products{{}, {}, {}, {}, add};
  for (const Tensor& left : terms[0].a) products.rows.push_back(left.size(0));
  for (const Tensor& right : terms[0].b) products.columns.push_back(right.size(1));
  for (const ProductTerm& term : terms) {
    blocks::Term& made = products.terms.emplace_back();
    made.k = term.a[0].size(1);
    for (const Tensor& left : term.a) made.lefts.push_back(operand_of(left, 0));
    for (const Tensor& right : term.b) made.rights.push_back(operand_of(right, 1));
  }
  // `waiting`: sums that are to be rounded and have to wait for further panels.
  c10::SmallVector<Tensor, 4> wide_biases, waiting;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const Tensor& out = outs[i];
    const bool rounds = out.scalar_type() != at::kFloat, waits = rounds && blocks::sums_in_parts(products.inner());
    waiting.push_back(waits ? at::empty(out.sizes(), out.options().dtype(at::kFloat)) : Tensor());
    wide_biases.push_back(!biases.empty() && biases[i].defined() ? biases[i].to(at::kFloat).contiguous() : Tensor());
    const Tensor& sums = waits ? waiting.back() : out;
    products.outputs.push_back({rounds && !waits ? nullptr : pointer<float>(sums),
                                rounds && !waits ? pointer<BFloat16>(out) : nullptr, sums.stride(0),
                                pointer<float>(wide_biases.back())});
  }
  blocks::run(products);
  for (std::size_t i = 0; i < outs.size(); ++i) {
    if (waiting[i].defined()) outs[i].copy_(waiting[i]);
  }
}

}  // namespace oumi::kernels::cpu
