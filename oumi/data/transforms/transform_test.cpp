#include "oumi/data/transforms/transform.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <set>

#include "oumi/data/tensor_dataset.h"
#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

using ::testing::AllOf;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;

TransformPipeline parse(const std::string& json, std::uint64_t seed = 0) {
  const Kwargs kwargs(parse_json(json, "test"), "dataset_kwargs");
  auto pipeline = TransformPipeline::from_kwargs(kwargs, seed);
  kwargs.check_all_read();
  return pipeline;
}

Tensor nested(const Json& values) {
  std::vector<float> flat;
  std::vector<std::int64_t> sizes;
  for (const Json* level = &values; level->is_array(); level = &level->front())
    sizes.push_back(static_cast<std::int64_t>(level->size()));
  const std::function<void(const Json&)> walk = [&](const Json& value) {
    if (!value.is_array()) return flat.push_back(value.get<float>());
    for (const Json& item : value) walk(item);
  };
  walk(values);
  return at::tensor(flat).view(sizes);
}

TEST(Transforms, ResizeEqualsInterpolate) {
  const Tensor image = nested(golden()["resize"]["image"]);
  for (const Json& entry : golden()["resize"]["cases"]) {
    const Json transform = {
        {"name", "resize"}, {"size", entry["size"]}, {"interpolation", entry["mode"]}, {"antialias", entry["antialias"]}};
    const auto pipeline = parse(Json{{"transforms", {transform}}}.dump());
    const Tensor out = pipeline.apply(image, 0, 0);
    EXPECT_TRUE(at::allclose(out, nested(entry["out"]), 1e-6, 1e-6)) << entry["mode"] << entry["size"];
    EXPECT_TRUE(at::equal(pipeline.apply_to_batch(image.unsqueeze(0)).squeeze(0), out));
  }
}

TEST(Transforms, ResizeByOneNumberSetsTheShorterEdge) {
  const auto pipeline = parse(R"({"transforms": [{"name": "resize", "size": 4}]})");
  EXPECT_EQ(pipeline.apply(at::ones({1, 6, 9}), 0, 0).sizes(), (std::vector<std::int64_t>{1, 4, 6}));
  EXPECT_EQ(pipeline.apply(at::ones({1, 9, 6}), 0, 0).sizes(), (std::vector<std::int64_t>{1, 6, 4}));
}

TEST(Transforms, NormalizePerChannel) {
  const auto pipeline = parse(R"({"mean": [1, 2], "std": [2, 4]})");
  const Tensor out = pipeline.apply(at::full({2, 1, 1}, 5.0f), 0, 0);
  EXPECT_TRUE(at::equal(out.flatten(), at::tensor({2.0f, 0.75f})));
  EXPECT_THAT(error_of([&] { pipeline.apply(at::ones({3, 1, 1}), 0, 0); }), HasSubstr("mean and std have 2 entries"));
  EXPECT_THAT(error_of([&] { pipeline.apply(at::ones({2, 1, 1}, c10::kByte), 0, 0); }), HasSubstr("put to_float before"));
}

TEST(Transforms, CropsTakeTheRightPixels) {
  const Tensor image = at::arange(16.0).to(c10::kFloat).view({1, 4, 4});
  const Tensor middle = parse(R"({"transforms": [{"name": "center_crop", "size": 2}]})").apply(image, 0, 0);
  EXPECT_TRUE(at::equal(middle.flatten(), at::tensor({5.0f, 6.0f, 9.0f, 10.0f})));
  const Tensor padded = parse(R"({"transforms": [{"name": "center_crop", "size": 6}]})").apply(image, 0, 0);
  EXPECT_EQ(padded.sum().item<float>(), 120.0f);
  EXPECT_EQ(padded[0][1][2].item<float>(), 1.0f);
}

TEST(Transforms, RandomOnesAreFunctionsOfSeedEpochAndIndex) {
  const std::string text =
      R"({"transforms": [{"name": "random_crop", "size": 4, "padding": 2}, "random_horizontal_flip", "random_vertical_flip"]})";
  const Tensor image = at::arange(1.0, 17.0).to(c10::kFloat).view({1, 4, 4});
  const auto a = parse(text, 1), again = parse(text, 1), other = parse(text, 2);
  EXPECT_TRUE(a.is_random());
  int by_epoch = 0, by_index = 0, by_seed = 0;
  std::set<std::string> kinds;
  for (int index = 0; index < 50; ++index) {
    const Tensor value = a.apply(image, 3, index);
    EXPECT_EQ(value.sizes(), image.sizes());
    EXPECT_TRUE(at::equal(value, again.apply(image, 3, index)));
    by_epoch += !at::equal(value, a.apply(image, 4, index));
    by_index += !at::equal(value, a.apply(image, 3, index + 1));
    by_seed += !at::equal(value, other.apply(image, 3, index));
    kinds.insert(hash_bytes(value.const_data_ptr(), value.nbytes()));
  }
  EXPECT_GT(by_epoch, 40);
  EXPECT_GT(by_index, 40);
  EXPECT_GT(by_seed, 40);
  EXPECT_GT(kinds.size(), 25u);
}

TEST(Transforms, FlipProbabilityIsKept) {
  const auto pipeline = parse(R"({"transforms": [{"name": "random_horizontal_flip", "p": 0.25}]})");
  const Tensor image = at::tensor({1.0f, 2.0f}).view({1, 1, 2});
  int flipped = 0;
  for (int index = 0; index < 4000; ++index) flipped += pipeline.apply(image, 0, index)[0][0][0].item<float>() == 2.0f;
  // Five standard deviations of a binomial: 5 * sqrt(4000 * 0.25 * 0.75) = 137.
  EXPECT_NEAR(flipped, 1000, 137);
}

TEST(Transforms, RefusesMistakes) {
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "resise", "size": 3}]})"); }),
              AllOf(HasSubstr("dataset_kwargs.transforms[0]"), HasSubstr("did you mean 'resize'?")));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "resize", "sise": 3}]})"); }), HasSubstr("transforms[0].size"));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "resize", "size": 3, "antialais": true}]})"); }),
              HasSubstr("did you mean 'antialias'?"));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "resize", "size": -1}]})"); }),
              HasSubstr("expected a positive number"));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "random_horizontal_flip", "p": 1.5}]})"); }),
              HasSubstr("[0, 1], got 1.5"));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": {"name": "resize"}})"); }), HasSubstr("expected list, got dict"));
  EXPECT_THAT(error_of([] { parse(R"({"std": 0})"); }), HasSubstr("expected nonzero numbers, got 0"));
  EXPECT_THAT(
      error_of([] { parse(R"({"transforms": [{"name": "random_crop", "size": 9}]})").apply(at::ones({1, 4, 4}), 0, 0); }),
      HasSubstr("at least 9 x 9 (padding included), got 4 x 4"));
  EXPECT_THAT(error_of([] { parse(R"({"transforms": [{"name": "center_crop", "size": 2}]})").apply(at::ones({4, 4}), 0, 0); }),
              HasSubstr("expected an image [channels, height, width], got [4, 4]"));
  EXPECT_THAT(error_of([] { register_transform("Resize", nullptr); }), HasSubstr("already registered"));
}

TEST(TensorDataset, ByteTableGivesTheSameBitsAsTheTransforms) {
  const Tensor images =
      at::arange(0, 2 * 3 * 4 * 32, at::TensorOptions(c10::kLong)).remainder(256).to(c10::kByte).view({2, 3, 4, 32});
  const Kwargs kwargs{{"mean", Json({0.485, 0.456, 0.406})}, {"std", Json({0.229, 0.224, 0.225})}};
  TensorDatasetOptions options{.transforms = TransformPipeline::from_kwargs(kwargs, 0, {"to_float"}),
                               .transform_field = "images"};
  TensorDataset dataset({{"images", images}, {"labels", at::arange(2)}}, options);
  const std::vector<std::int64_t> indices = {1, 0, 1};
  const Batch batch = dataset.get_batch(indices);
  EXPECT_EQ(batch.sample_ids, indices);
  EXPECT_TRUE(at::equal(batch.at("labels"), at::tensor(indices)));
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const Tensor expected = options.transforms.apply(images[indices[i]], 0, indices[i]);
    EXPECT_TRUE(at::equal(batch.at("images")[i], expected));
    EXPECT_TRUE(at::equal(dataset.get(indices[i]).at("images"), expected));
  }
}

TEST(TensorDataset, RandomAndGeometricTransformsAgreeBetweenGetAndGetBatch) {
  const Tensor images = at::arange(0, 5 * 36, at::TensorOptions(c10::kLong)).to(c10::kByte).view({5, 1, 6, 6});
  for (const char* text : {R"({"transforms": ["to_float", {"name": "resize", "size": 3}]})",
                           R"({"transforms": ["to_float", {"name": "random_crop", "size": 3}]})"}) {
    TensorDataset dataset({{"images", images}}, {.transforms = parse(text, 4), .transform_field = "images"});
    dataset.set_epoch(2);
    const Batch batch = dataset.get_batch(std::vector<std::int64_t>{4, 0, 2});
    EXPECT_TRUE(at::equal(batch.at("images")[0], dataset.get(4).at("images")));
    EXPECT_TRUE(at::equal(batch.at("images")[2], dataset.get(2).at("images")));
  }
}

TEST(TensorDataset, RefusesWhatIsNoDataset) {
  EXPECT_THAT(error_of([] { TensorDataset({{"a", at::ones({3})}, {"b", at::ones({4})}}); }),
              HasSubstr("expected 3 rows as in 'a', got 4 in 'b'"));
  EXPECT_THAT(error_of([] { TensorDataset({{"a", at::ones({})}}); }), HasSubstr("got a scalar"));
  TensorDataset dataset({{"a", at::ones({3})}});
  EXPECT_THAT(error_of([&] { dataset.get(3); }), HasSubstr("sample 3 is out of range: expected an index in [0, 3)"));
  EXPECT_THAT(error_of([&] { dataset.get_batch(std::vector<std::int64_t>{0, -1}); }), HasSubstr("sample -1 is out of range"));
}

}  // namespace
}  // namespace oumi
