// Language models measured: loss, perplexity and token accuracy over a data set; multiple choice.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "oumi/data/data_loader.h"
#include "oumi/metrics/metric.h"
#include "oumi/models/language_model.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

// One pass over `loader` (batches of input_ids, attention_mask, labels, ... as in training):
//   eval_loss        each batch's mean over its predicted tokens, averaged with the batches' numbers of samples, as Hugging
//   Face's Trainer eval_perplexity  exp(eval_loss) eval_accuracy    share of predicted tokens whose likeliest prediction is
//   right, over all tokens eval_tokens      predicted tokens
// Logits exist for blocks of predicted tokens alone: at most 64 MiB of them at once, whatever batch and vocabulary are. Throws
// UserError when no token is predicted.
MetricValues evaluate_language_model(LanguageModel& model, DataLoader& loader, const std::string& prefix = "eval");

// A question: which of `choices` continues `context`?
struct MultipleChoiceRow {
  std::string context;
  std::vector<std::string> choices;
  std::size_t gold = 0;  // index of the right choice
};

// JSONL: {"query" or "context": str, "choices": [str, ...], "gold": int}. `gold` may also be the text of the right choice.
// Throws UserError naming file and line.
std::vector<MultipleChoiceRow> read_multiple_choice(const std::filesystem::path& file);

// The log-probability of each choice after its context, in the order of rows and choices.
std::vector<std::vector<double>> score_multiple_choice(LanguageModel& model, const Tokenizer& tokenizer,
                                                       const std::vector<MultipleChoiceRow>& rows, std::int64_t batch_size);

// lm-evaluation-harness's multiple_choice: each choice is scored by the log-probability of " " + choice after the context
// (spaces at the context's end move to the choice; an empty context becomes the bos or eos token; what is longer than the
// model's context is cut on the left).
//   acc        share of questions whose best-scored choice is the right one
//   acc_norm   the same with scores divided by the choice's length in characters
//   acc_bytes  the same by its length in UTF-8 bytes: equal to acc_norm for ASCII
//   acc_stderr, acc_norm_stderr   sample standard error of the mean
// `batch_size` sequences at a time, longest first.
MetricValues evaluate_multiple_choice(LanguageModel& model, const Tokenizer& tokenizer,
                                      const std::vector<MultipleChoiceRow>& rows, std::int64_t batch_size);

}  // namespace oumi
