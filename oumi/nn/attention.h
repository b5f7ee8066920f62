// Causal self-attention of decoders: grouped heads, rotary positions, sliding windows, packed samples, a key-value cache.
#pragma once

#include <cstdint>
#include <vector>

#include "oumi/nn/kv_cache.h"
#include "oumi/nn/layers.h"
#include "oumi/nn/rms_norm.h"
#include "oumi/nn/rotary.h"

namespace oumi::nn {

// What the layers of one forward share. Copied when a layer is called under hooks: handles only.
struct DecoderContext {
  std::vector<RotaryTable> rotary;  // one for each kind of layer (AttentionConfig::rotary)
  Tensor segment_ids;               // int32 [batch, keys], -1 padding; undefined: every token sees all before it
  KvCache* cache = nullptr;
  bool last_token_only = false;  // of the results: keys and values are those of all tokens
};

// softmax(scale q k^T + mask) v with what all families share: the cache, the masks, dropout of probabilities.
struct AttentionCore {
  double scale = 1;
  double soft_cap = 0;                               // 0: none
  double dropout = 0;                                // of the probabilities, in training
  std::int64_t sliding_window = 0;                   // 0: none
  std::int64_t layer = 0;                            // which of the cache's
  std::shared_ptr<const TensorParallel> parallel{};  // set where a rank has some of the heads

  // query [B, T, heads, head_dim], key and value [B, T, kv_heads, head_dim] -> [B, T, heads * head_dim].
  Tensor operator()(const Tensor& query, const Tensor& key, const Tensor& value, const DecoderContext& context,
                    bool training) const;
};

enum class QkNorm { kNone, kPerHead, kAllHeads };  // over head_dim (Qwen 3, Gemma 3), or over heads * head_dim (OLMo 2)

struct AttentionConfig {
  std::int64_t hidden_size = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  bool qkv_bias = false, output_bias = false;
  bool fused_qkv = false;  // one qkv_proj (Phi 3) instead of q_proj, k_proj, v_proj
  QkNorm qk_norm = QkNorm::kNone;
  RmsNormOptions norm{};
  AttentionCore core{};
  std::size_t rotary = 0;  // index into DecoderContext::rotary
};

// Parameters: q_proj, k_proj, v_proj, o_proj (or o_proj, qkv_proj), q_norm, k_norm. In a tensor-parallel group each rank has
// the same number of heads, whole groups of queries with their keys and values.
class AttentionImpl : public Module {
 public:
  explicit AttentionImpl(const AttentionConfig& config);
  // [B, T, hidden_size] -> the same shape, or [B, 1, hidden_size] with last_token_only.
  Tensor forward(const Tensor& outside, const DecoderContext& context);

 private:
  AttentionConfig config_;
  Linear q_proj{nullptr}, k_proj{nullptr}, v_proj{nullptr}, o_proj{nullptr}, qkv_proj{nullptr};
  RmsNorm q_norm{nullptr}, k_norm{nullptr};
};
OUMI_MODULE(Attention);

}  // namespace oumi::nn
