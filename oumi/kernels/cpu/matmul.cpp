#include "oumi/kernels/cpu/matmul.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/core/GradMode.h>

// Exported by LibTorch builds that carry MKL; Fortran's interface, column-major. Absent elsewhere.
extern "C" __attribute__((weak)) void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                                             const int* k, const float* alpha, const float* a, const int* lda, const float* b,
                                             const int* ldb, const float* beta, float* c, const int* ldc);
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int threads);

namespace oumi::kernels::cpu {
namespace {

at::Tensor as_tensor(Matrix matrix, std::int64_t rows, std::int64_t columns) {
  float* data = const_cast<float*>(matrix.data);
  if (matrix.layout == Layout::kPlain) return at::from_blob(data, {rows, columns}, {matrix.stride, 1}, at::kFloat);
  return at::from_blob(data, {rows, columns}, {1, matrix.stride}, at::kFloat);
}

}  // namespace

OneThread::OneThread() {
  if (MKL_Set_Num_Threads_Local != nullptr) before_ = MKL_Set_Num_Threads_Local(1);
}

OneThread::~OneThread() {
  if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(before_);
}

void multiply(std::int64_t rows, std::int64_t columns, std::int64_t inner, Matrix a, Matrix b, float beta, float* out,
              std::int64_t out_stride) {
  if (sgemm_ != nullptr) {
    // Row-major out = a b is column-major out^T = b^T a^T.
    const int m = static_cast<int>(columns), n = static_cast<int>(rows), k = static_cast<int>(inner);
    const int lda = static_cast<int>(b.stride), ldb = static_cast<int>(a.stride), ldc = static_cast<int>(out_stride);
    const float alpha = 1;
    const char transpose_b = b.layout == Layout::kPlain ? 'N' : 'T', transpose_a = a.layout == Layout::kPlain ? 'N' : 'T';
    sgemm_(&transpose_b, &transpose_a, &m, &n, &k, &alpha, b.data, &lda, a.data, &ldb, &beta, out, &ldc);
    return;
  }
  const c10::AutoGradMode no_grad(false);
  at::Tensor result = at::from_blob(out, {rows, columns}, {out_stride, 1}, at::kFloat);
  const at::Tensor product = at::mm(as_tensor(a, rows, inner), as_tensor(b, inner, columns));
  if (beta == 0) {
    result.copy_(product);
  } else {
    result.mul_(beta).add_(product);
  }
}

}  // namespace oumi::kernels::cpu
