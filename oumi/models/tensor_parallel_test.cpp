// Every dense family spread over two ranks: losses, gradients, logits, initial weights and files of the whole model.
#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>

#include "oumi/base/files.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/distributed/sharding.h"
#include "oumi/distributed/testing.h"
#include "oumi/models/language_models.h"
#include "oumi/models/state.h"
#include "oumi/models/tensor_parallel_state.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::kQuick;
using testing::run_ranks;

fs::path family_folder(const std::string& name) {
  const char* root = std::getenv("OUMI_SOURCE_DIR");
  return fs::path(root != nullptr ? root : ".") / "tests/golden/families" / name;
}

Batch batch_of(const std::string& family, std::int64_t tokens) {
  const StateDict check = load_safetensors(family_folder(family) / "check.safetensors");
  Batch batch;
  for (const char* name : {"input_ids", "attention_mask", "labels"})
    batch.set(name, check.at(name)[1].narrow(1, 0, tokens).clone());
  return batch;
}

NamedTensors gradients_of(const torch::nn::Module& model) {
  NamedTensors result;
  for (const auto& item : model.named_parameters()) result.emplace_back(item.key(), item.value().grad());
  return result;
}

struct Case {
  std::string family;
  bool sequence_parallel;
};

void PrintTo(const Case& item, std::ostream* out) { *out << item.family; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* family : {"gemma2", "gemma3", "gpt2", "gpt2_untied", "llama_dynamic", "llama_llama3", "mistral", "olmo2",
                             "olmo3", "phi3_longrope", "qwen2", "qwen3"}) {
    all.push_back({family, false});
    all.push_back({family, true});
  }
  return all;
}

class TensorParallelFamily : public ::testing::TestWithParam<Case> {
 protected:
  LanguageModelPtr part(const std::shared_ptr<ProcessGroup>& group, const LanguageModelOptions& options) const {
    LanguageModelOptions own = options;
    own.tensor_parallel = TensorParallel::create(group, {.sequence_parallel = GetParam().sequence_parallel});
    return load_language_model(family_folder(GetParam().family), own);
  }
};

TEST_P(TensorParallelFamily, IsTheWholeModel) {
  constexpr std::int64_t kTokens = 7;  // an odd number: sequence parallelism fills rows up
  const Batch batch = batch_of(GetParam().family, kTokens);
  const LanguageModelOptions options{.dtype = at::kDouble};
  const LanguageModelPtr whole = load_language_model(family_folder(GetParam().family), options);
  whole->set_label_smoothing(0.1);
  whole->train();
  const Tensor expected = (*whole)(batch).loss();
  expected.backward();
  const NamedTensors expected_gradients = gradients_of(*whole);
  whole->eval();
  Batch unlabelled = batch;
  unlabelled.erase("labels");
  const Tensor expected_logits = (*whole)(unlabelled).logits();

  std::vector<NamedTensors> gradients(2);
  std::map<std::string, TensorSplit> splits;
  const auto errors = run_ranks(2, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    const LanguageModelPtr model = part(group, options);
    model->set_label_smoothing(0.1);
    model->train();
    const Tensor loss = (*model)(batch).loss();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-10 * expected.item<double>());
    loss.backward();
    gradients[static_cast<std::size_t>(group->rank())] = gradients_of(*model);
    if (group->rank() == 0) splits = tensor_splits(*model);
    model->eval();
    EXPECT_TRUE(at::allclose((*model)(unlabelled).logits(), expected_logits, 1e-9, 1e-10));
  });
  EXPECT_THAT(errors, ::testing::Each(""));
  EXPECT_GT(splits.size(), expected_gradients.size() / 3);
  for (std::size_t i = 0; i < expected_gradients.size(); ++i) {
    const auto& [name, gradient] = expected_gradients[i];
    ASSERT_EQ(gradients[0][i].first, name);
    const auto split = splits.find(name);
    if (split != splits.end()) {
      const Tensor joined = split->second.join({gradients[0][i].second, gradients[1][i].second});
      EXPECT_TRUE(at::allclose(joined, gradient, 1e-8, 1e-12))
          << name << " differs by " << (joined - gradient).abs().max().item<double>();
      continue;
    }
    for (const NamedTensors& own : gradients) EXPECT_TRUE(at::allclose(own[i].second, gradient, 1e-8, 1e-12)) << name;
  }
}

TEST_P(TensorParallelFamily, StartsAndIsSavedAsTheWholeModel) {
  const fs::path root = fs::temp_directory_path() / ("oumi_tensor_parallel_" + std::to_string(::getpid()));
  const LanguageModelOptions options{.load_weights = false};
  at::manual_seed(5);
  const LanguageModelPtr whole = load_language_model(family_folder(GetParam().family), options);
  whole->save_pretrained(root / "whole", 3000);  // in several files
  static std::mutex drawing;
  const auto errors = run_ranks(2, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
    LanguageModelPtr model;
    {
      const std::lock_guard<std::mutex> lock(drawing);
      at::manual_seed(5);
      model = part(group, options);
    }
    model->save_pretrained(root / "spread", 3000);
    group->barrier("saving");
    const StateDict before = state_dict(*model);
    StateDict copies;
    for (const auto& [name, tensor] : before) copies.set(name, tensor.detach().clone());
    {
      const c10::AutoGradMode no_grad(false);
      for (auto& [name, tensor] : state_dict(*model)) Tensor(tensor).zero_();
    }
    model->load_weights_from(root / "spread");
    for (const auto& [name, tensor] : before) EXPECT_TRUE(at::equal(tensor, copies.at(name))) << name;
  });
  EXPECT_THAT(errors, ::testing::Each(""));
  for (const auto& entry : fs::directory_iterator(root / "whole")) {
    EXPECT_EQ(read_text_file(entry.path()), read_text_file(root / "spread" / entry.path().filename()))
        << entry.path().filename();
  }
  fs::remove_all(root);
}

INSTANTIATE_TEST_SUITE_P(All, TensorParallelFamily, ::testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.family + (info.param.sequence_parallel ? "_sequence" : "");
});

TEST(TensorParallelModel, RefusesWhatCannotBeSpread) {
  const auto refusal = [](const std::string& family, std::int64_t ranks, const Json& overrides) {
    const auto errors = run_ranks(ranks, kQuick, [&](std::shared_ptr<ProcessGroup> group) {
      load_language_model(family_folder(family),
                          {.overrides = overrides, .load_weights = false, .tensor_parallel = TensorParallel::create(group)});
    });
    return errors.front();
  };
  EXPECT_THAT(refusal("qwen3_moe", 2, Json::object()), ::testing::HasSubstr("mixtures of experts"));
  EXPECT_THAT(refusal("qwen3", 4, Json::object()),
              ::testing::HasSubstr("expected a divisor of the model's key-value heads (2), got 4"));
  EXPECT_THAT(refusal("qwen3", 2, {{"intermediate_size", 21}}), ::testing::HasSubstr("intermediate_size (21), got 2"));
}

}  // namespace
}  // namespace oumi
