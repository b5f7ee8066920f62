// The inner loops of the fused operations on raw memory: one source, compiled for several instruction sets, picked once when
// the program runs. Knows nothing of tensors, threads or autograd: callers split rows among threads, and each row's result does
// not depend on how. float32 arithmetic throughout; bfloat16 is a storage type.
#pragma once

#include <cstdint>

namespace oumi::kernels::cpu {

struct BFloat16 {
  std::uint16_t bits;
};

// Row by row over [rows, width]. `residual` and `sum` are null without a residual addition; `scale` is weight, or 1 + weight.
template <class T>
struct RmsNormForward {
  const T *x, *residual;
  const float* scale;
  T *sum, *y;
  float* reciprocal;  // [rows]: 1 / sqrt(mean(x^2) + eps)
  std::int64_t width;
  float eps;
};

// `x` is what was normalised. `grad_sum`, which may be null, is added to grad_x. `grad_scale` [width] is added to; null: not
// wanted.
template <class T>
struct RmsNormBackward {
  const T *x, *grad_y, *grad_sum;
  const float *scale, *reciprocal;
  T* grad_x;
  float* grad_scale;
  std::int64_t width;
};

enum class Activation { kSilu, kGeluTanh };

template <class T>
struct Gated {
  const T *gate, *up;
  T* out;             // forward
  const T* grad_out;  // backward
  T *grad_gate, *grad_up;
  Activation activation;
};

// Token by token; token n = (batch, position). `sign` -1 turns the other way: the gradient.
template <class T>
struct Rotary {
  const T* in;
  T* out;                                                   // packed [batch, positions, heads, head_dim]
  std::int64_t batch_stride, position_stride, head_stride;  // of `in`
  std::int64_t positions, heads, head_dim, half;
  const float *cos, *sin;  // [positions or (batch, positions), half]
  bool angles_per_batch;
  float sign;
};

// Cross entropy of logits [rows, vocabulary]; with_gradients leaves the loss's gradient times grad_scale in `logits`.
template <class T>
struct CrossEntropy {
  T* logits;
  const float* bias;  // [vocabulary], added first; may be null
  const std::int64_t* labels;
  std::int64_t vocabulary;
  float smoothing, soft_cap, grad_scale;
  bool with_gradients;
  double* losses;  // [rows]
  float* scratch;  // [vocabulary], for bfloat16
};

// A tile of attention scores [rows, stride], of the keys from first_key on. Row r sees the keys [begin[r], end[r]).
struct AttentionTile {
  float* scores;
  std::int64_t rows, keys, stride, first_key;
  const std::int32_t *begin, *end;
  float soft_cap;
  float scale = 1;  // of the scores, when the product left it out
};

// One image through convolution, ReLU and 2 x 2 max-pooling, in channels-last order. A filter's row over `size` pixels is one
// run of size * channels floats, padded to run_length, a multiple of 8; images have 8 floats to spare at their end for that.
struct ConvReluPool {
  std::int64_t height, width, channels, filters, size;
  std::int64_t run_length() const { return (size * channels + 7) / 8 * 8; }
  std::int64_t pooled_height() const { return (height - size + 1) / 2; }
  std::int64_t pooled_width() const { return (width - size + 1) / 2; }
};

// Filters are taken in blocks of this many, padded with zeros.
constexpr std::int64_t kFilterBlock = 24;
// In `winners`: no pixel, ReLU was flat.
constexpr std::uint8_t kNoWinner = 4;

// A few rows times a matrix that is read once: out[row, n] = x[row] . weight[n]. x [rows, width],
// weight [outputs, weight_stride], out [rows, out_stride].
template <class T>
struct FewRows {
  const float* x;
  const T* weight;
  float* out;
  std::int64_t rows, width, weight_stride, out_stride;
};

// The other way round: sums[row] += the sum over n of factors[row, n] * values[n]. factors [rows, factor_stride],
// values [count, value_stride], sums [rows, width].
template <class T>
struct WeightedSums {
  const float* factors;
  const T* values;
  float* sums;
  std::int64_t rows, count, width, factor_stride, value_stride;
};

// The loops for one storage type.
template <class T>
struct RowLoops {
  void (*rms_norm_forward)(const RmsNormForward<T>&, std::int64_t first, std::int64_t last);
  void (*rms_norm_backward)(const RmsNormBackward<T>&, std::int64_t first, std::int64_t last);
  void (*gated_forward)(const Gated<T>&, std::int64_t first, std::int64_t last);
  void (*gated_backward)(const Gated<T>&, std::int64_t first, std::int64_t last);
  void (*rotary)(const Rotary<T>&, std::int64_t first, std::int64_t last);
  void (*cross_entropy)(const CrossEntropy<T>&, std::int64_t first, std::int64_t last);
  float (*dot)(const T* a, const T* b, std::int64_t size);
  // to += factor * from.
  void (*add_scaled)(const T* from, float factor, float* to, std::int64_t size);
  // The outputs from first to last.
  void (*few_rows)(const FewRows<T>&, std::int64_t first, std::int64_t last);
  void (*weighted_sums)(const WeightedSums<T>&);
};

struct SimdLoops {
  const char* name;
  RowLoops<float> float32;
  RowLoops<BFloat16> bfloat16;
  // Scores become exp(score - new maximum), 0 where unseen; row_max and row_sum go on from the tiles before; rows of
  // `accumulated` [rows, head_dim] are scaled to the new maximum.
  void (*attention_softmax)(const AttentionTile&, float* row_max, float* row_sum, float* accumulated, std::int64_t head_dim);
  // out[r] = accumulated[r] / row_sum[r], or 0 for a row that saw nothing; log_sum[r] = log of the softmax's denominator.
  void (*attention_finish)(const float* accumulated, const float* row_max, const float* row_sum, std::int64_t rows,
                           std::int64_t head_dim, float* out, std::int64_t out_stride, float* log_sum);
  // Scores become probabilities; grad_probabilities, laid out as the scores, become the gradient of the scores before scaling
  // by `scale` (the product's own or the tile's).
  void (*attention_softmax_backward)(const AttentionTile&, float* grad_probabilities, const float* log_sum, const float* delta,
                                     float scale);
  // The order in which convolutions take channels: blocks of this many, then filter rows, filter columns and the channels of a
  // block.
  std::int64_t channel_block;
  // weight [filter blocks, products, kFilterBlock] with an offset into the image for each of a window's size * size * channels
  // products; bias [filter blocks * kFilterBlock]; out and winners [pooled_height, pooled_width, filters], winners in 0-3 (row
  // by row of the window) or kNoWinner.
  void (*conv_relu_pool_forward)(const ConvReluPool&, const float* image, const float* weight, const std::int32_t* offsets,
                                 const float* bias, float* out, std::uint8_t* winners);
  // weight and grad_weight [filters, size, run_length]; grad_weight and grad_bias [filters], of the filters from first to last,
  // and grad_image are added to. `scratch` is as large as an image, all zeros, and stays so.
  void (*conv_relu_pool_backward_weight)(const ConvReluPool&, const float* image, const std::uint8_t* winners,
                                         const float* grad_out, std::int64_t first_filter, std::int64_t last_filter,
                                         float* grad_weight, float* grad_bias);
  void (*conv_relu_pool_backward_image)(const ConvReluPool&, const float* weight, const std::uint8_t* winners,
                                        const float* grad_out, float* grad_image, float* scratch);
  // Rounds a row of floats.
  void (*narrow)(const float* from, BFloat16* to, std::int64_t size);
  // Rounds two rows into pairs, the first row's value in the low half.
  void (*narrow_pairs)(const float* first, const float* second, std::uint32_t* to, std::int64_t size);

  template <class T>
  const RowLoops<T>& loops() const;
};

template <>
inline const RowLoops<float>& SimdLoops::loops() const {
  return float32;
}
template <>
inline const RowLoops<BFloat16>& SimdLoops::loops() const {
  return bfloat16;
}

// The best set for this processor, or the one that ATEN_CPU_CAPABILITY names ("default", "avx2", "avx512"), LibTorch's own
// knob.
const SimdLoops& simd();

// True where bfloat16 products have instructions of their own (AVX-512 BF16, which processors with AMX have too); elsewhere
// float32 products of converted values are faster.
bool has_bfloat16_products();

}  // namespace oumi::kernels::cpu
