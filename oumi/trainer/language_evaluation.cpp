#include "oumi/trainer/language_evaluation.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::int64_t kIgnoredLabel = -100;
constexpr std::int64_t kLogitBytes = std::int64_t{64} << 20;

class EvaluationScope {
 public:
  explicit EvaluationScope(torch::nn::Module& module) : module_(module), was_training_(module.is_training()), no_grad_(false) {
    module_.eval();
  }
  ~EvaluationScope() { module_.train(was_training_); }
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
  c10::AutoGradMode no_grad_;
};

// Calls `visit(logits [n, vocab] float32, first row)` for blocks of `hidden` [rows, hidden_size].
template <class Visit>
void for_blocks(LanguageModel& model, const Tensor& hidden, Visit&& visit) {
  const std::int64_t block = std::max<std::int64_t>(1, kLogitBytes / (4 * model.dimensions().vocab_size));
  for (std::int64_t begin = 0; begin < hidden.size(0); begin += block) {
    visit(model.logits(hidden.narrow(0, begin, std::min(block, hidden.size(0) - begin))).to(at::kFloat), begin);
  }
}

struct BatchScore {
  double nll = 0;
  std::int64_t correct = 0, tokens = 0;
};

BatchScore score(LanguageModel& model, const Batch& batch) {
  const auto optional = [&](const char* name) {
    const Tensor* found = batch.find(name);
    return found == nullptr ? Tensor() : *found;
  };
  const Tensor labels = batch.at("labels");
  const Tensor hidden = model.run({.input_ids = optional("input_ids"),
                                   .inputs_embeds = optional("inputs_embeds"),
                                   .attention_mask = optional("attention_mask"),
                                   .position_ids = optional("position_ids"),
                                   .segment_ids = optional("segment_ids")});
  const std::int64_t length = labels.size(1);
  BatchScore result;
  if (length < 2) return result;
  Tensor targets = labels.narrow(1, 1, length - 1);
  if (const Tensor segments = optional("segment_ids"); segments.defined()) {
    targets = targets.masked_fill(segments.narrow(1, 1, length - 1) != segments.narrow(1, 0, length - 1), kIgnoredLabel);
  }
  targets = targets.reshape({-1});
  const Tensor rows = targets.ne(kIgnoredLabel).nonzero().squeeze(1);
  targets = targets.index_select(0, rows);
  result.tokens = targets.size(0);
  const Tensor predicted = hidden.narrow(1, 0, length - 1).reshape({-1, hidden.size(-1)}).index_select(0, rows);
  for_blocks(model, predicted, [&](const Tensor& logits, std::int64_t begin) {
    const Tensor wanted = targets.narrow(0, begin, logits.size(0));
    result.nll += at::cross_entropy_loss(logits, wanted, {}, at::Reduction::Sum).item<double>();
    result.correct += logits.argmax(-1).eq(wanted).sum().item<std::int64_t>();
  });
  return result;
}

}  // namespace

MetricValues evaluate_language_model(LanguageModel& model, DataLoader& loader, const std::string& prefix) {
  const EvaluationScope evaluation(model);
  const auto started = std::chrono::steady_clock::now();
  double loss_sum = 0;
  std::int64_t samples = 0, batches = 0, tokens = 0, correct = 0;
  loader.start_epoch(0);
  while (std::optional<Batch> batch = loader.next()) {
    const BatchScore result = score(model, *batch);
    const std::int64_t size = batch->batch_size();
    loss_sum += result.nll / static_cast<double>(std::max<std::int64_t>(1, result.tokens)) * static_cast<double>(size);
    samples += size;
    tokens += result.tokens;
    correct += result.correct;
    ++batches;
  }
  if (tokens == 0) {
    throw UserError("data.validation", cat("expected labels to predict, got none in ", samples, " samples"),
                    "check the dataset's label mask, e.g. with oumi-cpp tokenize");
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  const double loss = loss_sum / static_cast<double>(samples);
  return {{prefix + "_loss", loss},
          {prefix + "_perplexity", std::exp(loss)},
          {prefix + "_accuracy", static_cast<double>(correct) / static_cast<double>(tokens)},
          {prefix + "_tokens", static_cast<double>(tokens)},
          {prefix + "_runtime", seconds},
          {prefix + "_samples_per_second", static_cast<double>(samples) / seconds},
          {prefix + "_steps_per_second", static_cast<double>(batches) / seconds}};
}

std::vector<MultipleChoiceRow> read_multiple_choice(const std::filesystem::path& file) {
  std::vector<MultipleChoiceRow> rows;
  std::size_t number = 0;
  for (const std::string& line : split(read_text_file(file), '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    const std::string place = cat(file.string(), ":", number);
    const Json object = parse_json(line, place);
    const auto get = [&](const char* key) { return object.is_object() ? object.value(key, Json(nullptr)) : Json(nullptr); };
    MultipleChoiceRow row;
    const Json context = get("query").is_null() ? get("context") : get("query");
    if (!context.is_string())
      throw UserError(place, "key 'query' (or 'context'): expected str, got " + json_type_name(context));
    row.context = context;
    const Json choices = get("choices"), gold = get("gold");
    if (!choices.is_array() || choices.size() < 2)
      throw UserError(place, "key 'choices': expected at least two texts, got " + choices.dump());
    for (const Json& choice : choices) {
      if (!choice.is_string() || choice.get<std::string>().empty())
        throw UserError(place, "key 'choices': expected texts that are not empty, got " + choice.dump());
      row.choices.push_back(choice);
    }
    if (gold.is_string()) {
      row.gold = static_cast<std::size_t>(std::find(row.choices.begin(), row.choices.end(), gold.get<std::string>()) -
                                          row.choices.begin());
    } else {
      row.gold = gold.is_number_integer() && gold.get<std::int64_t>() >= 0 ? gold.get<std::size_t>() : row.choices.size();
    }
    if (row.gold >= row.choices.size())
      throw UserError(
          place, cat("key 'gold': expected an index below ", row.choices.size(), " or one of the choices, got ", gold.dump()));
    rows.push_back(std::move(row));
  }
  if (rows.empty()) throw UserError(file.string(), "expected at least one question, got none");
  return rows;
}

namespace {

// Tokens of context and continuation, of which the last `scored` are the continuation's.
struct Scored {
  std::vector<std::int32_t> ids;
  std::int64_t scored = 0;
  double log_probability = 0;
};

// Spaces go to the continuation, where byte-level tokenizers have them.
Scored encode_pair(const Tokenizer& tokenizer, std::string context, std::string continuation, std::int64_t max_length) {
  const std::size_t end =
      context.find_last_not_of(" \t\n\r\f\v") == std::string::npos ? 0 : context.find_last_not_of(" \t\n\r\f\v") + 1;
  continuation = context.substr(end) + continuation;
  context.resize(end);
  const EncodeOptions plain{.add_special_tokens = false};
  Scored result;
  std::size_t context_tokens;
  if (context.empty()) {
    const std::optional<std::int32_t> start = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id();
    if (!start)
      throw UserError("context", "is empty, and the tokenizer has neither bos nor eos token to begin with",
                      "give the question a context");
    result.ids = tokenizer.encode(continuation, plain);
    result.ids.insert(result.ids.begin(), *start);
    context_tokens = 1;
  } else {
    result.ids = tokenizer.encode(context + continuation, plain);
    context_tokens = std::min(tokenizer.encode(context, plain).size(), result.ids.size());
  }
  result.scored = static_cast<std::int64_t>(result.ids.size() - context_tokens);
  const auto longest = static_cast<std::size_t>(max_length) + 1;  // the last token is predicted and not read
  if (max_length > 0 && result.ids.size() > longest)
    result.ids.erase(result.ids.begin(), result.ids.end() - static_cast<std::ptrdiff_t>(longest));
  result.scored = std::min(result.scored, static_cast<std::int64_t>(result.ids.size()) - 1);
  return result;
}

void score_batch(LanguageModel& model, std::span<Scored*> batch) {
  const auto count = static_cast<std::int64_t>(batch.size());
  std::int64_t length = 0;
  for (const Scored* item : batch) length = std::max(length, static_cast<std::int64_t>(item->ids.size()) - 1);
  Tensor ids = at::zeros({count, length}, at::kLong), mask = at::zeros({count, length}, at::kLong);
  std::vector<std::int64_t> rows, targets;
  for (std::int64_t b = 0; b < count; ++b) {
    const Scored& item = *batch[static_cast<std::size_t>(b)];
    const auto read = static_cast<std::int64_t>(item.ids.size()) - 1;
    std::int64_t* row = ids.mutable_data_ptr<std::int64_t>() + b * length;
    std::copy_n(item.ids.begin(), read, row);
    mask.select(0, b).narrow(0, 0, read).fill_(1);
    for (std::int64_t t = read - item.scored; t < read; ++t) {
      rows.push_back(b * length + t);
      targets.push_back(item.ids[static_cast<std::size_t>(t) + 1]);
    }
  }
  const Tensor hidden = model.run({.input_ids = ids, .attention_mask = mask});
  const Tensor predicted = hidden.reshape({-1, hidden.size(-1)}).index_select(0, torch::tensor(rows, at::kLong));
  const Tensor wanted = torch::tensor(targets, at::kLong);
  std::vector<double> log_probabilities;
  for_blocks(model, predicted, [&](const Tensor& logits, std::int64_t begin) {
    const Tensor nll =
        at::cross_entropy_loss(logits, wanted.narrow(0, begin, logits.size(0)), {}, at::Reduction::None).contiguous();
    for (std::int64_t i = 0; i < nll.numel(); ++i)
      log_probabilities.push_back(-static_cast<double>(nll.const_data_ptr<float>()[i]));
  });
  std::size_t next = 0;
  for (Scored* item : batch) {
    for (std::int64_t i = 0; i < item->scored; ++i) item->log_probability += log_probabilities[next++];
  }
}

double characters(const std::string& text) {
  return static_cast<double>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Index of the highest score, the first of equals, as numpy's argmax.
template <class Length>
std::size_t best(const MultipleChoiceRow& row, const std::vector<double>& scores, Length&& length) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < row.choices.size(); ++i) {
    if (scores[i] / length(row.choices[i]) > scores[best] / length(row.choices[best])) best = i;
  }
  return best;
}

double standard_error(double mean, double count) { return count > 1 ? std::sqrt(mean * (1 - mean) / (count - 1)) : 0.0; }

}  // namespace

std::vector<std::vector<double>> score_multiple_choice(LanguageModel& model, const Tokenizer& tokenizer,
                                                       const std::vector<MultipleChoiceRow>& rows, std::int64_t batch_size) {
  const EvaluationScope evaluation(model);
  const LanguageModelDimensions dimensions = model.dimensions();
  std::vector<Scored> pairs;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const std::string& choice : rows[i].choices) {
      pairs.push_back(encode_pair(tokenizer, rows[i].context, " " + choice, dimensions.max_position_embeddings));
      for (const std::int32_t id : pairs.back().ids) {
        if (id < dimensions.vocab_size) continue;
        throw UserError(cat("question ", i), cat("token ", id, " is not in the model's vocabulary of ", dimensions.vocab_size),
                        "does the tokenizer belong to the model?");
      }
    }
  }
  std::vector<Scored*> order;
  for (Scored& pair : pairs) order.push_back(&pair);
  std::stable_sort(order.begin(), order.end(), [](const Scored* a, const Scored* b) { return a->ids.size() > b->ids.size(); });
  const auto batch = static_cast<std::size_t>(batch_size);
  for (std::size_t begin = 0; begin < order.size(); begin += batch)
    score_batch(model, std::span(order).subspan(begin, std::min(batch, order.size() - begin)));
  std::vector<std::vector<double>> scores;
  auto pair = pairs.begin();
  for (const MultipleChoiceRow& row : rows) {
    scores.emplace_back();
    for (std::size_t i = 0; i < row.choices.size(); ++i) scores.back().push_back((pair++)->log_probability);
  }
  return scores;
}

MetricValues evaluate_multiple_choice(LanguageModel& model, const Tokenizer& tokenizer,
                                      const std::vector<MultipleChoiceRow>& rows, std::int64_t batch_size) {
  const std::vector<std::vector<double>> scores = score_multiple_choice(model, tokenizer, rows, batch_size);
  double acc = 0, acc_norm = 0, acc_bytes = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto right = [&](auto&& length) { return best(rows[i], scores[i], length) == rows[i].gold ? 1.0 : 0.0; };
    acc += right([](const std::string&) { return 1.0; });
    acc_norm += right(characters);
    acc_bytes += right([](const std::string& choice) { return static_cast<double>(choice.size()); });
  }
  const auto count = static_cast<double>(rows.size());
  acc /= count;
  acc_norm /= count;
  acc_bytes /= count;
  return {{"acc", acc},
          {"acc_norm", acc_norm},
          {"acc_bytes", acc_bytes},
          {"acc_stderr", standard_error(acc, count)},
          {"acc_norm_stderr", standard_error(acc_norm, count)},
          {"questions", count}};
}

}  // namespace oumi
