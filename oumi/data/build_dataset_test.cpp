#include "oumi/data/build_dataset.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <algorithm>

#include "oumi/data/registry.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

using ::testing::AllOf;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

// "numbers": x = 0 .. size - 1, of dataset_kwargs.size.
void register_numbers() {
  static const bool once = [] {
    register_dataset("numbers", [](const DatasetRequest& request) -> DatasetPtr {
      const auto size = request.kwargs.get<std::int64_t>("size", 10), from = request.kwargs.get<std::int64_t>("from", 0);
      return std::make_shared<TensorDataset>(TensorDict{{"x", at::arange(from, from + size)}},
                                             TensorDatasetOptions{.name = "numbers/" + request.split});
    });
    return true;
  }();
  (void)once;
}

DatasetParams numbers(std::int64_t size, std::string split = "train") {
  register_numbers();
  DatasetParams params;
  params.dataset_name = "Numbers";
  params.split = std::move(split);
  params.dataset_kwargs = {{"size", size}};
  return params;
}

Ids contents(Dataset& dataset) {
  Ids ids;
  if (dataset.is_map_style()) {
    for (std::int64_t i = 0; i < dataset.size(); ++i) ids.push_back(dataset.get(i).at("x").item<std::int64_t>());
  } else {
    while (const auto sample = dataset.next()) ids.push_back(sample->at("x").item<std::int64_t>());
  }
  return ids;
}

TEST(BuildDataset, FashionMnistFromDebian) {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  DatasetParams params;
  params.dataset_name = "Fashion_MNIST";
  DatasetSplitParams split;
  split.datasets = {params};
  const DatasetPtr train = build_dataset(split);
  ASSERT_EQ(train->size(), 60000);
  const Sample sample = train->get(0);
  EXPECT_EQ(sample.at("images").sizes(), (Ids{1, 28, 28}));
  EXPECT_EQ(sample.at("images").scalar_type(), c10::kFloat);
  EXPECT_EQ(sample.at("labels").item<std::int64_t>(), 9);
  // Mean of all training pixels in [0, 1], as published for the data set.
  Ids all(60000);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  EXPECT_NEAR(train->get_batch(all).at("images").mean().item<double>(), 0.2860, 5e-5);
  EXPECT_EQ(train->class_names().at(9), "Ankle boot");
  params.split = "test[100:200]+test[-500:]";
  EXPECT_EQ(build_dataset(params)->size(), 600);
}

TEST(BuildDataset, SplitsSlicesAndSeeds) {
  EXPECT_EQ(contents(*build_dataset(numbers(10, "train[:30%]+train[-2:]"))), (Ids{0, 1, 2, 8, 9}));
  // Seeded: torch.randperm's order, cut into parts that share nothing.
  DatasetParams left = numbers(20, "train[:75%]"), right = numbers(20, "train[75%:]");
  left.dataset_kwargs["split_seed"] = right.dataset_kwargs["split_seed"] = golden()["randperm"]["seed"];
  Ids both = contents(*build_dataset(left));
  EXPECT_EQ(both.size(), 15u);
  const Ids rest = contents(*build_dataset(right));
  both.insert(both.end(), rest.begin(), rest.end());
  EXPECT_EQ(both, golden()["randperm"]["order"].get<Ids>());
}

TEST(BuildDataset, ShuffleAndSampleCountEqualOumis) {
  for (const bool stream : {false, true}) {
    for (const Json& entry : golden()["sampling"]) {
      if (entry["order"].empty()) continue;
      DatasetParams params = numbers(entry["size"]);
      params.shuffle = entry["shuffle"];
      params.seed = entry["seed"].get<std::int64_t>();
      if (!entry["count"].is_null()) params.sample_count = entry["count"].get<std::int64_t>();
      const DatasetPtr dataset = build_dataset(params, {.stream = stream});
      EXPECT_EQ(dataset->is_iterable(), stream);
      EXPECT_EQ(contents(*dataset), entry["order"].get<Ids>()) << entry.dump();
    }
  }
  // Without a seed, the caller's: never left to chance.
  DatasetParams params = numbers(50);
  params.shuffle = true;
  EXPECT_EQ(contents(*build_dataset(params, {.seed = 5})), contents(*build_dataset(params, {.seed = 5})));
  EXPECT_NE(contents(*build_dataset(params, {.seed = 5})), contents(*build_dataset(params, {.seed = 6})));
}

TEST(BuildDataset, MixturesEqualOumis) {
  for (const bool stream : {false, true}) {
    for (const Json& entry : golden()["interleave"]) {
      DatasetSplitParams split;
      split.stream = stream;
      split.seed = entry["seed"].get<std::int64_t>();
      split.mixture_strategy = entry["strategy"];
      std::int64_t from = 0;
      for (std::size_t i = 0; i < entry["sizes"].size(); ++i) {
        DatasetParams params = numbers(entry["sizes"][i]);
        params.dataset_kwargs["from"] = from;
        params.mixture_proportion = entry["probabilities"][i];
        from += entry["sizes"][i].get<std::int64_t>();
        split.datasets.push_back(params);
      }
      EXPECT_EQ(contents(*build_dataset(split)), entry["order"].get<Ids>()) << entry.dump();
    }
  }
  // The sizes of Oumi's tests: under- and oversampling in one row.
  DatasetSplitParams split;
  split.datasets = {numbers(10), numbers(200)};
  split.datasets[0].sample_count = 5;
  split.datasets[1].sample_count = 201;
  EXPECT_EQ(build_dataset(split)->size(), 206);
}

TEST(BuildDataset, SaysWhatIsWrong) {
  DatasetSplitParams split;
  EXPECT_THAT(error_of([&] { build_dataset(split, {.split = DatasetSplitKind::kValidation}); }),
              HasSubstr("[data.validation.datasets] expected at least one dataset"));
  split.datasets = {numbers(3), numbers(3)};
  split.datasets[0].mixture_proportion = 0.5;
  EXPECT_THAT(error_of([&] { build_dataset(split); }),
              HasSubstr("expected mixture_proportion on all 2 datasets or on none, got it on 1"));
  split.datasets[1].mixture_proportion = 0.4;
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("add up to 1, got 0.9"));
  split.datasets = {numbers(3, "train[:0]")};
  EXPECT_THAT(error_of([&] { build_dataset(split); }),
              AllOf(HasSubstr("[data.train.datasets[0]]"), HasSubstr("has no samples")));
  split.datasets = {numbers(3, "train[")};
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("[data.train.datasets[0].split]"));
  split.datasets = {numbers(3)};
  split.datasets[0].dataset_kwargs["sise"] = 4;
  EXPECT_THAT(error_of([&] { build_dataset(split); }),
              AllOf(HasSubstr("[data.train.datasets[0].dataset_kwargs.sise] unknown key"), HasSubstr("did you mean 'size'?")));
  split.datasets[0] = numbers(3);
  split.datasets[0].dataset_name = "fashion_mnits";
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("did you mean 'fashion_mnist'?"));
  split.datasets[0].dataset_name = "csv";
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("[data.train.datasets[0].dataset_path] is required"));
  split.datasets[0].dataset_name = "yahma/alpaca-cleaned";
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("[data.train.datasets[0].dataset_path] is required"));
  split.datasets[0].dataset_name = "someone/unheard-of";
  EXPECT_THAT(error_of([&] { build_dataset(split); }), HasSubstr("set dataset_path to a local copy"));
  EXPECT_THAT(error_of([] { register_dataset("FASHION_mnist", nullptr); }), HasSubstr("already registered"));
}

TEST(BuildDataset, StreamsOfFilesTakeSlicesAndShuffles) {
  const TemporaryDirectory folder;
  std::string text = "x\n";
  for (int i = 0; i < 40; ++i) text += std::to_string(i) + "\n";
  testing::write(folder.path() / "a.csv", text);
  DatasetParams params;
  params.dataset_name = "csv";
  params.dataset_path = (folder.path() / "a.csv").string();
  params.split = "train[10:20]";
  EXPECT_EQ(contents(*build_dataset(params, {.stream = true})), (Ids{10, 11, 12, 13, 14, 15, 16, 17, 18, 19}));
  params.split = "train[:50%]";
  EXPECT_THAT(error_of([&] { build_dataset(params, {.stream = true}); }), HasSubstr("its length is not known"));
  EXPECT_EQ(build_dataset(params)->size(), 20);
  params.split = "train";
  params.shuffle = true;
  params.shuffle_buffer_size = 8;
  params.sample_count = 50;
  const DatasetPtr stream = build_dataset(params, {.stream = true});
  const Ids shuffled = contents(*stream);
  EXPECT_EQ(shuffled.size(), 50u);
  Ids once(shuffled.begin(), shuffled.begin() + 40);
  std::sort(once.begin(), once.end());
  EXPECT_EQ(once.back(), 39);
  EXPECT_EQ(std::unique(once.begin(), once.end()), once.end());
}

}  // namespace
}  // namespace oumi
