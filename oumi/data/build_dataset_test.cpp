#include "oumi/data/build_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "oumi/data/registry.h"

namespace oumi {
namespace {

DatasetParams fashion(std::string split) {
  DatasetParams params;
  params.dataset_name = "Fashion_MNIST";
  params.split = std::move(split);
  return params;
}

TEST(BuildDataset, FashionMnistFromDebian) {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  DatasetSplitParams split;
  split.datasets = {fashion("train")};
  const DatasetPtr train = build_dataset(split);
  ASSERT_EQ(train->size(), 60000);
  const Sample sample = train->get(0);
  EXPECT_EQ(sample.at("images").sizes(), (std::vector<std::int64_t>{1, 28, 28}));
  EXPECT_EQ(sample.at("images").scalar_type(), c10::kFloat);
  EXPECT_EQ(sample.at("labels").scalar_type(), c10::kLong);
  EXPECT_EQ(sample.at("labels").item<std::int64_t>(), 9);
  // Mean of all training pixels in [0, 1], as published for the data set.
  std::vector<std::int64_t> all(60000);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const Batch batch = train->get_batch(all);
  EXPECT_NEAR(batch.at("images").mean().item<double>(), 0.2860, 5e-5);
  EXPECT_EQ(train->class_names().at(9), "Ankle boot");

  EXPECT_EQ(build_dataset(fashion("test"))->size(), 10000);
  EXPECT_EQ(build_dataset(fashion("train[:90%]"))->size(), 54000);
  EXPECT_EQ(build_dataset(fashion("train[-500:]+test[100:200]"))->size(), 600);
}

}  // namespace
}  // namespace oumi
