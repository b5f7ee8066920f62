#include "oumi/data/collators.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oumi/base/error.h"

namespace oumi {
namespace {

using testing::HasSubstr;

Tensor ints(std::vector<std::int64_t> values) { return at::tensor(values, at::kLong); }

std::vector<Sample> texts() {
  return {Sample{{"input_ids", ints({1, 2, 3})}, {"labels", ints({1, 2, 3})}},
          Sample{{"input_ids", ints({4})}, {"labels", ints({4})}}};
}

template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return describe(error);
  }
  return "no error";
}

TEST(CollatorsTest, PadsToTheLongestAndLabelsWithMinus100) {
  const Batch batch = build_collator("Padding")(texts());
  EXPECT_TRUE(at::equal(batch.at("input_ids"), ints({1, 2, 3, 4, 0, 0}).view({2, 3})));
  EXPECT_TRUE(at::equal(batch.at("labels"), ints({1, 2, 3, 4, -100, -100}).view({2, 3})));
  EXPECT_EQ(batch.names(), (std::vector<std::string>{"input_ids", "labels"}));
}

TEST(CollatorsTest, PadsLeftToAMultipleWithGivenValues) {
  const Batch batch = build_collator(
      "padding",
      {{"padding_side", "left"}, {"pad_to_multiple_of", 2}, {"pad_value", {{"input_ids", 7}}}, {"label_pad_value", -1}})(
      texts());
  EXPECT_TRUE(at::equal(batch.at("input_ids"), ints({7, 1, 2, 3, 7, 7, 7, 4}).view({2, 4})));
  EXPECT_TRUE(at::equal(batch.at("labels"), ints({-1, 1, 2, 3, -1, -1, -1, 4}).view({2, 4})));
}

TEST(CollatorsTest, CutsAtMaxLength) {
  const Batch batch = build_collator("padding", {{"max_length", 2}, {"pad_value", 9}})(texts());
  EXPECT_TRUE(at::equal(batch.at("input_ids"), ints({1, 2, 4, 9}).view({2, 2})));
  const Batch short_enough = build_collator("padding", {{"max_length", 3}})(texts());
  EXPECT_EQ(short_enough.at("input_ids").size(1), 3);
}

TEST(CollatorsTest, PadsEveryRaggedDimensionAndLeavesEqualOnesAlone) {
  const std::vector<Sample> samples = {
      Sample{{"image", at::ones({2, 3})}, {"mask", at::ones({2, 2}, at::kBool)}, {"label", at::full({}, 1, at::kLong)}},
      Sample{{"image", at::ones({3, 2}) * 2}, {"mask", at::ones({2, 2}, at::kBool)}, {"label", at::full({}, 2, at::kLong)}}};
  const Batch batch = padding_collator({.pad_value = 5, .pad_to_multiple_of = 4})(samples);
  EXPECT_EQ(batch.at("image").sizes(), at::IntArrayRef({2, 4, 3}));
  EXPECT_TRUE(at::equal(batch.at("image")[1], at::tensor(std::vector<float>{2, 2, 5, 2, 2, 5, 2, 2, 5, 5, 5, 5}).view({4, 3})));
  EXPECT_EQ(batch.at("mask").sizes(), at::IntArrayRef({2, 2, 2}));
  EXPECT_TRUE(at::equal(batch.at("label"), ints({1, 2})));
}

TEST(CollatorsTest, EmptySequencesAndEmptyBatches) {
  const CollateFn collate = padding_collator();
  EXPECT_TRUE(collate({}).empty());
  const Batch batch = collate({Sample{{"input_ids", ints({})}}, Sample{{"input_ids", ints({3})}}});
  EXPECT_TRUE(at::equal(batch.at("input_ids"), ints({0, 3}).view({2, 1})));
  EXPECT_EQ(collate({Sample{{"input_ids", ints({})}}}).at("input_ids").sizes(), at::IntArrayRef({1, 0}));
}

TEST(CollatorsTest, SamplesThatDoNotFitAreErrors) {
  const CollateFn collate = padding_collator();
  EXPECT_THAT(error_of([&] { collate({Sample{{"x", ints({1})}}, Sample{{"y", ints({1})}}}); }),
              HasSubstr("expected [x], got [y] in sample 1 of the batch"));
  EXPECT_THAT(error_of([&] { collate({Sample{{"x", ints({1})}}, Sample{{"x", at::ones({1})}}}); }),
              HasSubstr("[collator.padding.x] samples of one batch differ: expected 1 dimensions of Long"));
  EXPECT_THAT(error_of([&] { collate({Sample{{"x", ints({1})}}, Sample{{"x", ints({1}).view({1, 1})}}}); }),
              HasSubstr("got 2 of Long"));
}

TEST(CollatorsTest, BadNamesAndArgumentsAreErrors) {
  EXPECT_THAT(error_of([] { build_collator("paddin"); }),
              HasSubstr("unknown collator 'paddin'\nhint: did you mean 'padding'?"));
  EXPECT_THAT(error_of([] { build_collator("padding", {{"pad_vlaue", 1}}); }), HasSubstr("pad_vlaue"));
  EXPECT_THAT(error_of([] { build_collator("default", {{"x", 1}}); }), HasSubstr("x"));
  EXPECT_THAT(error_of([] { build_collator("padding", {{"padding_side", "up"}}); }),
              HasSubstr("expected right or left, got up"));
  EXPECT_THAT(error_of([] { build_collator("padding", {{"pad_to_multiple_of", 0}}); }), HasSubstr("expected 1 or more, got 0"));
  EXPECT_THAT(error_of([] { build_collator("padding", {{"pad_value", {{"x", "a"}}}}); }),
              HasSubstr("pad_value.x] expected int or float, got str"));
}

TEST(CollatorsTest, UsersCollatorsAreFoundByNameAndCannotBeReplaced) {
  [[maybe_unused]] static const bool once = [] {  // the table lasts as long as the process, also under --gtest_repeat
    register_collator("OnlyFirst", [](const Kwargs& kwargs) -> CollateFn {
      const auto field = kwargs.require<std::string>("field");
      return [field](const std::vector<Sample>& samples) { return Batch{{field, samples.front().at(field).unsqueeze(0)}}; };
    });
    return true;
  }();
  EXPECT_EQ(build_collator("onlyfirst", {{"field", "labels"}})(texts()).at("labels").sizes(), at::IntArrayRef({1, 3}));
  EXPECT_THAT(error_of([] { register_collator("ONLYFIRST", nullptr); }), HasSubstr("already registered as 'OnlyFirst'"));
  EXPECT_THAT(collator_names(), testing::IsSupersetOf({"default", "padding", "OnlyFirst"}));
}

}  // namespace
}  // namespace oumi
