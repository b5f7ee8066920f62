// Every family against Transformers (tests/golden/families.py): logits, losses and weights of 20 AdamW steps, files out and in.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <torch/optim/adamw.h>

#include <cstdlib>

#include "oumi/base/files.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/models/build_model.h"
#include "oumi/models/language_models.h"
#include "oumi/models/state.h"
#include "oumi/optim/parameter_groups.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

fs::path golden_folder() {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return fs::path(root != nullptr ? root : ".") / "tests/golden/families";
}

std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_folder())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The worst of |a - b| - tolerance * (1 + |b|), with its place.
void expect_close(const Tensor& a, const Tensor& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const Tensor excess = (a.to(at::kDouble) - b.to(at::kDouble)).abs() - tolerance * (1 + b.to(at::kDouble).abs());
  const auto worst = excess.flatten().argmax().item<std::int64_t>();
  EXPECT_LE(excess.max().item<double>(), 0) << what << "[" << worst << "]: got " << a.flatten()[worst].item<double>()
                                            << ", expected " << b.flatten()[worst].item<double>();
}

class FamilyTest : public ::testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return golden_folder() / GetParam(); }
  bool depends_on_length() const { return GetParam() == "llama_dynamic" || GetParam() == "phi3_longrope"; }
  const StateDict check_ = load_safetensors(folder() / "check.safetensors");

  Batch batch(std::int64_t i) const {
    return {{"input_ids", check_.at("input_ids")[i]},
            {"attention_mask", check_.at("attention_mask")[i]},
            {"labels", check_.at("labels")[i]}};
  }

  void expect_logits(LanguageModel& model) const {
    const c10::AutoGradMode no_grad(false);
    model.eval();
    for (std::int64_t i = 0; i < 2; ++i) {
      Batch inputs = batch(i);
      inputs.erase("labels");
      const Tensor real = inputs.at("attention_mask").to(at::kBool);
      expect_close(model(inputs).logits().index({real}), check_.at("logits")[i].index({real}), 1e-4,
                   "logits of batch " + std::to_string(i));
    }
  }
};

TEST_P(FamilyTest, LogitsEqualTransformers) {
  const LanguageModelPtr model = load_language_model(folder());
  EXPECT_EQ(model->dimensions().vocab_size, 64);
  expect_logits(*model);
  const c10::AutoGradMode no_grad(false);
  Batch items = batch(2);
  if (GetParam() != "gemma3_multimodal") items.set("num_items_in_batch", at::scalar_tensor(7.0, at::kDouble));
  EXPECT_NEAR((*model)(items).loss().item<double>(), check_.at("loss_items").item<double>(), 1e-4);
}

TEST_P(FamilyTest, TrainingEqualsTransformers) {
  if (!check_.contains("losses")) GTEST_SKIP() << "its logits alone are compared";
  const LanguageModelPtr model = load_language_model(folder());
  model->train();
  std::vector<Tensor> parameters;
  for (const auto& [name, parameter] : unique_named_parameters(*model)) parameters.push_back(parameter);
  torch::optim::AdamW optimizer(parameters, torch::optim::AdamWOptions(1e-3).eps(1e-6).weight_decay(0.01));
  for (std::int64_t step = 0; step < 20; ++step) {
    const Outputs outputs = (*model)(batch(step % 4));
    EXPECT_FALSE(outputs.contains("logits"));
    optimizer.zero_grad();
    outputs.loss().backward();
    optimizer.step();
    const auto expected = check_.at("losses")[step].item<double>();
    EXPECT_NEAR(outputs.loss().item<double>(), expected, 1e-4 * expected) << "step " << step;
  }
  StateDict saved;
  for (const auto& [name, tensor] : check_) {
    if (name.starts_with("after.")) saved.set(name.substr(6), tensor);
  }
  const StateDict expected = model->from_hf_state_dict(saved, "check.safetensors"), weights = state_dict(*model);
  EXPECT_EQ(expected.size(), weights.size());
  for (const auto& [name, tensor] : weights) {
    Tensor difference = (tensor - expected.at(name)).abs();
    if (name.ends_with("c_attn.bias")) {
      // A bias of all keys shifts every score of a query alike: its gradient is 0, and AdamW turns the rounding there into
      // steps.
      const std::int64_t size = difference.size(0) / 3;
      difference = at::cat({difference.narrow(0, 0, size), difference.narrow(0, 2 * size, size)});
    }
    EXPECT_LE(difference.max().item<double>(), 1e-4) << name;
  }
}

TEST_P(FamilyTest, SavedFolderComesBackEqual) {
  const LanguageModelPtr model = load_language_model(folder());
  const TemporaryDirectory saved;
  model->save_pretrained(saved.path(), 20'000);
  // tests/golden/families_check.py loads these in Transformers.
  if (const char* keep = std::getenv("OUMI_SAVE_FAMILIES")) model->save_pretrained(fs::path(keep) / GetParam(), 20'000);
  const Json before = read_json_file(folder() / "config.json"), after = read_json_file(saved.path() / "config.json");
  EXPECT_EQ(after["architectures"], Json::array({model->model_type()}));
  if (GetParam() != "gemma3_multimodal") {
    for (const auto& [key, value] : before.items()) EXPECT_EQ(after[key], value) << key;
  }
  const ModelPtr again = build_model({.model_name = saved.path().string()});
  EXPECT_EQ(state_dict(*again).names(), state_dict(*model).names());
  expect_logits(*as_language_model(again));
}

// The cache: the prompt at once and then token by token gives what the whole sequence gives.
class ListCache : public KvCache {
 public:
  std::pair<Tensor, Tensor> append(std::int64_t layer, const Tensor& key, const Tensor& value) override {
    const auto i = static_cast<std::size_t>(layer);
    if (i == keys_.size()) {
      keys_.push_back(key);
      values_.push_back(value);
    } else {
      keys_[i] = at::cat({keys_[i], key}, 1);
      values_[i] = at::cat({values_[i], value}, 1);
    }
    return {keys_[i], values_[i]};
  }
  std::int64_t length() const override { return length_; }
  void advance(std::int64_t tokens) { length_ += tokens; }

 private:
  std::vector<Tensor> keys_, values_;
  std::int64_t length_ = 0;
};

TEST_P(FamilyTest, DecodingWithACacheEqualsTheWhole) {
  if (depends_on_length()) GTEST_SKIP() << "its frequencies depend on the sequence's length";
  const LanguageModelPtr model = load_language_model(folder());
  model->eval();
  const c10::AutoGradMode no_grad(false);
  const Tensor ids = check_.at("input_ids")[0], mask = check_.at("attention_mask")[0];
  const Tensor whole = model->logits(model->run({.input_ids = ids, .attention_mask = mask}));
  ListCache cache;
  std::vector<Tensor> parts;
  for (const auto& [begin, end] : std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 7}, {7, 8}, {8, 9}, {9, 12}}) {
    const Tensor hidden =
        model->run({.input_ids = ids.narrow(1, begin, end - begin), .attention_mask = mask.narrow(1, 0, end), .cache = &cache});
    cache.advance(end - begin);
    parts.push_back(model->logits(hidden));
  }
  const Tensor real = mask.to(at::kBool);
  expect_close(at::cat(parts, 1).index({real}), whole.index({real}), 1e-4, "logits");
}

// The last layer's other tokens are left out, or are not: the last one is the same.
TEST_P(FamilyTest, LastTokenOnlyIsTheLastOfAll) {
  const LanguageModelPtr model = load_language_model(folder());
  model->eval();
  const c10::AutoGradMode no_grad(false);
  // Padding is on the left here, so that the last token is one.
  DecoderInputs inputs{.input_ids = check_.at("input_ids")[0].flip(1),
                       .attention_mask = check_.at("attention_mask")[0].flip(1)};
  const Tensor whole = model->run(inputs);
  ListCache cache;
  inputs.cache = &cache;
  inputs.last_token_only = true;
  const Tensor last = model->run(inputs);
  ASSERT_TRUE(last.size(1) == 1 || GetParam().starts_with("gpt2")) << last.sizes();
  expect_close(last.select(1, last.size(1) - 1), whole.select(1, whole.size(1) - 1), 1e-4, "hidden states");
}

// Two samples in one row give the loss and the gradients that they give apart.
TEST_P(FamilyTest, PackedEqualsUnpacked) {
  if (depends_on_length()) GTEST_SKIP() << "its frequencies depend on the sequence's length";
  const LanguageModelPtr model = load_language_model(folder());
  model->train();
  const Tensor ids = check_.at("input_ids")[3], labels = check_.at("labels")[3];
  const Tensor a = ids[0].narrow(0, 0, 7), b = ids[1].narrow(0, 0, 9);
  const Tensor a_labels = labels[0].narrow(0, 0, 7), b_labels = labels[1].narrow(0, 0, 9);
  const Tensor items = at::scalar_tensor(10.0);
  const auto gradients = [&](const std::vector<Batch>& batches) {
    model->zero_grad();
    for (const Batch& one : batches) (*model)(one).loss().backward();
    std::vector<Tensor> result;
    for (const auto& [name, parameter] : unique_named_parameters(*model))
      result.push_back(parameter.grad().defined() ? parameter.grad().clone() : at::zeros_like(parameter));
    return result;
  };
  const auto apart =
      gradients({{{"input_ids", a.unsqueeze(0)}, {"labels", a_labels.unsqueeze(0)}, {"num_items_in_batch", items}},
                 {{"input_ids", b.unsqueeze(0)}, {"labels", b_labels.unsqueeze(0)}, {"num_items_in_batch", items}}});
  const Tensor segments = at::cat({at::zeros({7}, at::kInt), at::ones({9}, at::kInt), at::full({2}, -1, at::kInt)});
  const Tensor positions = at::cat({at::arange(7), at::arange(9), at::zeros({2}, at::kLong)});
  const Tensor ignored = at::full({2}, -100, at::kLong);
  const auto packed = gradients({{{"input_ids", at::cat({a, b, at::zeros({2}, at::kLong)}).unsqueeze(0)},
                                  {"labels", at::cat({a_labels, b_labels, ignored}).unsqueeze(0)},
                                  {"position_ids", positions.unsqueeze(0)},
                                  {"segment_ids", segments.unsqueeze(0)},
                                  {"num_items_in_batch", items}}});
  for (std::size_t i = 0; i < apart.size(); ++i) expect_close(packed[i], apart[i], 1e-5, "gradient " + std::to_string(i));
}

INSTANTIATE_TEST_SUITE_P(Golden, FamilyTest, ::testing::ValuesIn(golden_cases()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace oumi
