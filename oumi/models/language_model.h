// What every causal language model is: a Model whose batches are token ids, with a typed inner forward for decoding, and
// Hugging Face's loss, files and names.
#pragma once

#include <filesystem>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "oumi/distributed/tensor_parallel.h"
#include "oumi/models/model.h"
#include "oumi/nn/kv_cache.h"
#include "oumi/nn/layers.h"

namespace oumi {

using KvCache = nn::KvCache;

// The inner forward's input. B batch, T new tokens, S tokens with those that a cache holds.
struct DecoderInputs {
  Tensor input_ids;              // integer [B, T]
  Tensor inputs_embeds = {};     // [B, T, hidden_size], instead of input_ids; taken as the embedding layer would return them
  Tensor attention_mask = {};    // [B, S]: 1 a token, 0 padding (at either end); absent: no padding
  Tensor position_ids = {};      // integer [B, T] or [T]; absent: counted from the cache's length on, padding included, as HF
  Tensor segment_ids = {};       // int32 [B, T]: a token sees only its own segment; -1 is padding. Wins over attention_mask
  KvCache* cache = nullptr;      // decoding: keys and values are appended to it
  bool last_token_only = false;  // what is wanted: a decoder may then leave the others out after its last layer's attention

  std::int64_t new_tokens() const { return (inputs_embeds.defined() ? inputs_embeds : input_ids).size(1); }
};

// Figures that other folders ask for without knowing the family.
struct LanguageModelDimensions {
  std::int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  bool tie_word_embeddings = false;
};

// Batch: "input_ids" int64 [B, T], or "inputs_embeds"; optional "attention_mask" [B, T], "position_ids" [B, T], "segment_ids"
// int32 [B, T] (packed samples), "labels" int64 [B, T] (-100 ignored, not shifted: token t is predicted from t - 1 here, as
// in HF), "num_items_in_batch" (one number: the summed loss is divided by it; absent: the mean over predicted tokens).
// Outputs: "loss" (float32) with labels, 0 with a graph when no label counts; "logits" [B, T, vocab_size] without labels or in
// eval mode. In training with labels no logits exist: they are reduced to the loss block by block
// (kernels/linear_cross_entropy.h).
//
// A model built for a tensor-parallel group (LanguageModelOptions) is this rank's part of it. All ranks of the group call
// forward with the same batch and get the same loss; save_pretrained is for all of them too: their rank 0 writes, the others
// send their parts. No decoding with a cache.
class LanguageModel : public Model {
 public:
  LanguageModel();

  static constexpr std::uint64_t kMaxShardSize = 5'000'000'000;  // bytes, Transformers 4's

  Outputs forward(const Batch& batch) override;
  bool accepts_num_items_in_batch() const override { return true; }

  // The decoder without its head: the normalised last hidden states [B, T, hidden_size], with last_token_only [B, T or 1,
  // hidden_size]. Call with the module on the call path (forward does; generation calls `run`).
  virtual Tensor hidden_states(const DecoderInputs& inputs) = 0;
  // [*, hidden_size] -> [*, vocab_size], with what the family does to logits (soft cap).
  virtual Tensor logits(const Tensor& hidden) = 0;
  // hidden_states through the call path: hooks run and errors name the module.
  Tensor run(const DecoderInputs& inputs);

  // The input embedding (NEFTune, resizing) and the head. With tied embeddings the head's weight is the embedding's and no
  // parameter of its own.
  virtual nn::Embedding input_embeddings() = 0;
  virtual nn::Linear output_head() = 0;

  virtual LanguageModelDimensions dimensions() const = 0;
  // HF's config.json: the keys that the model was made from, in their order.
  const Json& config() const noexcept { return config_; }
  // generation_config.json beside it; null when there was none.
  const Json& generation_config() const noexcept { return generation_config_; }
  void set_config(Json config, Json generation_config);

  // HF's label smoothing: the loss becomes (1 - s) nll + s mean over the vocabulary of -log p.
  void set_label_smoothing(double smoothing) { label_smoothing_ = smoothing; }
  // Leaves "logits" out in eval mode too when there are labels: an evaluation of the loss alone then needs no
  // [tokens, vocab_size].
  void set_loss_only(bool loss_only) { loss_only_ = loss_only; }

  // The weights by their names in Hugging Face's files and in their shapes there (GPT-2's matrices are transposed). Tensors are
  // the model's own where the layouts agree. A tied head is left out.
  StateDict hf_state_dict() const { return to_hf_state_dict(own_state_dict()); }
  // From the model's own names and shapes; each tensor by itself.
  virtual StateDict to_hf_state_dict(StateDict own) const { return own; }
  // The reverse: names and shapes of files, Transformers 4's and 5's, to the model's own. `origin` names the source in errors.
  virtual StateDict from_hf_state_dict(const StateDict& weights, const std::string& origin) const;
  void load_weights_from(const std::filesystem::path& directory) override;

  // Copies whole weights, by the model's own names, into this model: into a tensor-parallel group's, this rank's parts.
  // `origin` names the source in errors.
  void load_own_state_dict(const StateDict& weights, const std::string& origin);

  // Null for a whole model.
  const TensorParallelPtr& tensor_parallel() const noexcept { return tensor_parallel_; }

  // HF's initial values: normal(0, initializer_range), zero biases and padding rows, norms as their formula wants them.
  virtual void initialize_weights() = 0;

  // What its weights are to be.
  struct WeightsToCome {
    std::shared_ptr<const StateDict> files = {};  // mapped; nullptr: initial values
    std::string origin = {};
    Tensor rng_state = {};  // of the CPU generator, which initial values are drawn from
    c10::ScalarType dtype = c10::ScalarType::Float;
  };
  // Model::defer_weights. The values that its layers begin with (norms) are there already.
  void defer_weights(WeightsToCome weights);
  void take_weights_of(const std::filesystem::path& directory, const TakeWeight& take) override;

  // model.safetensors (or shards of at most `max_shard_size` bytes and an index), config.json, generation_config.json when
  // there was one: what Transformers 4 and 5 load with no missing or unexpected key. Throws EnvironmentError.
  void save_pretrained(const std::filesystem::path& directory) const override;
  void save_pretrained(const std::filesystem::path& directory, std::uint64_t max_shard_size) const;

 protected:
  // The soft cap on logits, 0 for none: part of the fused loss.
  virtual double final_logit_soft_cap() const { return 0; }
  // The name before the decoder's own parameters, "model" or "transformer": files of the bare decoder lack it.
  virtual const char* base_prefix() const { return "model"; }
  // [*, this rank's part of the vocabulary] -> [*, vocab_size].
  Tensor whole_logits(const Tensor& local) const;
  // config() as it is written: what older readers need is added.
  virtual Json config_to_save() const;

 private:
  Tensor loss(const Tensor& hidden, const Batch& batch);
  StateDict own_state_dict() const;
  void write_weights(const std::filesystem::path& directory, std::uint64_t max_shard_size) const;

  Json config_ = Json::object(), generation_config_;
  double label_smoothing_ = 0;
  bool loss_only_ = false;
  class ToCome;
  void take_state_dict(const StateDict& weights, const std::string& origin, const TakeWeight& take);

  TensorParallelPtr tensor_parallel_;
};

using LanguageModelPtr = std::shared_ptr<LanguageModel>;

// The model as a language model; nullptr when it is none.
inline LanguageModelPtr as_language_model(const ModelPtr& model) { return std::dynamic_pointer_cast<LanguageModel>(model); }

}  // namespace oumi
