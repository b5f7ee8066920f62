#include "oumi/generation/generate.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/types.h>

#include <algorithm>

#include "oumi/base/strings.h"
#include "oumi/generation/growing_kv_cache.h"

namespace oumi {
namespace {

class EvaluationScope {
 public:
  explicit EvaluationScope(torch::nn::Module& module) : module_(module), was_training_(module.is_training()), no_grad_(false) {
    if (was_training_) module_.eval();
  }
  ~EvaluationScope() {
    if (was_training_) module_.train();
  }
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
  c10::AutoGradMode no_grad_;
};

struct Sequence {
  std::size_t number;  // among the prompts
  std::mt19937_64 random;
  std::int64_t limit;  // most new tokens
};

void check_prompts(const LanguageModelDimensions& model, std::span<const std::vector<std::int32_t>> prompts,
                   std::size_t first) {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const std::string name = cat("prompt ", first + i);
    if (prompts[i].empty())
      throw UserError(name, "expected at least one token, got none",
                      "give some text, or a tokenizer that begins texts with a token");
    for (const std::int32_t id : prompts[i]) {
      if (id < 0 || id >= model.vocab_size) {
        throw UserError(name, cat("token ", id, " is not in the model's vocabulary of ", model.vocab_size),
                        "does the tokenizer belong to the model?");
      }
    }
    if (model.max_position_embeddings > 0 && static_cast<std::int64_t>(prompts[i].size()) >= model.max_position_embeddings) {
      throw UserError(name,
                      cat("context overflow: expected fewer than max_position_embeddings = ", model.max_position_embeddings,
                          " tokens, got ", prompts[i].size()),
                      "shorten the conversation");
    }
  }
}

// The sequences that are still going, as a batch.
class Decoder {
 public:
  Decoder(LanguageModel& model, std::span<const std::vector<std::int32_t>> prompts, std::int64_t longest_new)
      : model_(model),
        device_(model.input_embeddings()->weight.device()),
        length_(static_cast<std::int64_t>(
            std::max_element(prompts.begin(), prompts.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); })
                ->size())),
        cache_(length_ + std::min<std::int64_t>(longest_new, 256)) {
    const auto batch = static_cast<std::int64_t>(prompts.size());
    ids_ = at::zeros({batch, length_}, at::kLong);
    mask_ = at::zeros({batch, length_}, at::kLong);
    next_position_ = at::zeros({batch, 1}, at::kLong);
    for (std::int64_t row = 0; row < batch; ++row) {
      const std::vector<std::int32_t>& prompt = prompts[static_cast<std::size_t>(row)];
      const auto count = static_cast<std::int64_t>(prompt.size());
      std::int64_t* ids = ids_.mutable_data_ptr<std::int64_t>() + row * length_ + (length_ - count);
      std::copy(prompt.begin(), prompt.end(), ids);
      mask_.select(0, row).narrow(0, length_ - count, count).fill_(1);
      next_position_.select(0, row).fill_(count);
    }
    padded_ = mask_.min().item<std::int64_t>() == 0;
  }

  // Scores of the next token after the prompts, float32 [batch, vocab].
  Tensor prefill() {
    DecoderInputs inputs{.input_ids = ids_.to(device_), .cache = &cache_, .last_token_only = true};
    if (padded_) {
      inputs.attention_mask = mask_.to(device_);
      inputs.position_ids = (mask_.cumsum(1) - 1).clamp_min(0).to(device_);
    }
    return scores(inputs, length_);
  }

  // The same after one more token of each sequence. `tokens` int64 [batch, 1].
  Tensor step(const Tensor& tokens) {
    DecoderInputs inputs{.input_ids = tokens.to(device_), .cache = &cache_, .last_token_only = true};
    if (padded_) {
      mask_ = at::cat({mask_, at::ones({mask_.size(0), 1}, mask_.options())}, 1);
      inputs.attention_mask = mask_.to(device_);
      inputs.position_ids = next_position_.to(device_);
      next_position_ = next_position_ + 1;
    }
    return scores(inputs, 1);
  }

  void keep_rows(const std::vector<std::int64_t>& rows) {
    const Tensor index = at::tensor(rows, at::kLong);
    cache_.keep_rows(index.to(device_));
    mask_ = mask_.index_select(0, index);
    next_position_ = next_position_.index_select(0, index);
  }

 private:
  Tensor scores(const DecoderInputs& inputs, std::int64_t new_tokens) {
    const Tensor hidden = model_.run(inputs);
    cache_.advance(new_tokens);
    return model_.logits(hidden.select(1, hidden.size(1) - 1)).to(at::kCPU, at::kFloat).contiguous();
  }

  LanguageModel& model_;
  c10::Device device_;
  std::int64_t length_;
  GrowingKvCache cache_;
  Tensor ids_, mask_, next_position_;
  bool padded_ = false;
};

std::int32_t choose(std::span<float> scores, const TokenHistory& history, const SamplingOptions& options,
                    std::mt19937_64& random) {
  process_scores(scores, history, options);
  return options.do_sample ? sample_token(scores, random) : best_token(scores);
}

}  // namespace

std::vector<Continuation> generate(LanguageModel& model, std::span<const std::vector<std::int32_t>> prompts,
                                   const GenerationOptions& options, const TokenCallback& on_token,
                                   std::size_t first_sequence) {
  std::vector<Continuation> results(prompts.size());
  if (prompts.empty()) return results;
  const LanguageModelDimensions dimensions = model.dimensions();
  check_prompts(dimensions, prompts, first_sequence);
  const EvaluationScope evaluation(model);

  std::vector<Sequence> active;
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::seed_seq seeds{options.seed & 0xffffffffu, options.seed >> 32, static_cast<std::uint64_t>(first_sequence + i)};
    std::int64_t limit = options.max_new_tokens;
    if (dimensions.max_position_embeddings > 0)
      limit = std::min(limit, dimensions.max_position_embeddings - static_cast<std::int64_t>(prompts[i].size()));
    longest = std::max(longest, limit);
    active.push_back({.number = i, .random = std::mt19937_64(seeds), .limit = limit});
  }
  Decoder decoder(model, prompts, longest);
  Tensor scores = decoder.prefill();
  while (true) {
    const std::int64_t vocab = scores.size(1);
    float* row = scores.mutable_data_ptr<float>();
    std::vector<std::int64_t> kept, tokens;
    std::vector<Sequence> still;
    for (std::size_t i = 0; i < active.size(); ++i, row += vocab) {
      Sequence& sequence = active[i];
      Continuation& result = results[sequence.number];
      const std::int32_t token =
          choose({row, static_cast<std::size_t>(vocab)}, {.prompt = prompts[sequence.number], .generated = result.ids},
                 options.sampling, sequence.random);
      result.ids.push_back(token);
      const bool wanted = !on_token || on_token(sequence.number, token);
      if (std::binary_search(options.stop_token_ids.begin(), options.stop_token_ids.end(), token)) {
        result.reason = StopReason::kStopToken;
      } else if (!wanted) {
        result.reason = StopReason::kCallback;
      } else if (static_cast<std::int64_t>(result.ids.size()) >= sequence.limit) {
        result.reason = StopReason::kLength;
      } else {
        kept.push_back(static_cast<std::int64_t>(i));
        tokens.push_back(token);
        still.push_back(std::move(sequence));
      }
    }
    if (still.empty()) return results;
    if (still.size() < active.size()) decoder.keep_rows(kept);
    active = std::move(still);
    scores = decoder.step(at::tensor(tokens, at::kLong).unsqueeze(1));
  }
}

}  // namespace oumi
