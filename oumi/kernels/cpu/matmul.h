// One thread's matrix products on raw memory, for tiles that lie in cache.
#pragma once

#include <cstdint>

namespace oumi::kernels::cpu {

enum class Layout { kPlain, kTransposed };

struct Matrix {
  const float* data;
  std::int64_t stride;  // between rows as stored
  Layout layout = Layout::kPlain;
};

// out [rows, columns] = a b + beta out, a [rows, inner], b [inner, columns], all row-major; a kTransposed matrix is
// stored the other way round. The BLAS that LibTorch carries. Hold a OneThread where several threads multiply at once.
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t inner, Matrix a, Matrix b, float beta, float* out,
              std::int64_t out_stride);

// Keeps this thread's products on this thread. LibTorch tells MKL to start its own threads even inside a parallel region, which
// costs ten times the product of a tile.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = 0;
};

}  // namespace oumi::kernels::cpu
