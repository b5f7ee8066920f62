#include "oumi/models/config_overrides.h"

#include <gmock/gmock.h>

#include "oumi/base/error.h"

namespace oumi {
namespace {

using ::testing::HasSubstr;

Json after(Json config, const Json& overrides, const std::string& model_type = "llama") {
  apply_overrides(config, overrides, model_type);
  return config;
}

const Json kNewer = {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}, {"partial_rotary_factor", 0.5}}}};
const Json kNested = {{"rope_parameters",
                       {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}},
                        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}};
const Json kYarn = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};

TEST(ConfigOverrides, GoOverTheFileKeyByKey) {
  EXPECT_EQ(after({{"a", 1}, {"b", 2}}, {{"b", nullptr}, {"c", {1}}}), (Json{{"a", 1}, {"c", {1}}}));
}

TEST(ConfigOverrides, RopeKeysChangeANewerFilesParameters) {
  EXPECT_EQ(after(kNewer, {{"rope_theta", 5e5}}),
            (Json{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}, {"partial_rotary_factor", 0.5}}}}));
  Json yarn = kYarn;
  yarn["rope_theta"] = 1e6;
  yarn["partial_rotary_factor"] = 0.5;
  EXPECT_EQ(after(kNewer, {{"rope_scaling", kYarn}}), (Json{{"rope_parameters", yarn}}));
  yarn["rope_theta"] = 7;
  EXPECT_EQ(after(kNewer, {{"rope_scaling", kYarn}, {"rope_theta", 7}}), (Json{{"rope_parameters", yarn}}));
  EXPECT_EQ(after({{"rope_parameters", yarn}}, {{"rope_scaling", nullptr}}),
            (Json{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7}, {"partial_rotary_factor", 0.5}}}}));
  EXPECT_EQ(after(kNewer, {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}}}}),
            (Json{{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 1e6}}}}));
  // Older files have these keys themselves.
  EXPECT_EQ(after({{"rope_theta", 1e6}}, {{"rope_theta", 5}}), (Json{{"rope_theta", 5}}));
}

TEST(ConfigOverrides, RopeKeysSpeakOfFullAttention) {
  const Json changed = after(kNested, {{"rope_theta", 5}, {"rope_local_base_freq", 6}});
  EXPECT_EQ(changed["rope_parameters"]["full_attention"]["rope_theta"], 5);
  EXPECT_EQ(changed["rope_parameters"]["sliding_attention"]["rope_theta"], 6);
  EXPECT_EQ(changed.size(), 1u);
  const Json scaled = after(kNested, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}});
  EXPECT_EQ(scaled["rope_parameters"]["full_attention"], (Json{{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}));
  EXPECT_EQ(scaled["rope_parameters"]["sliding_attention"], kNested["rope_parameters"]["sliding_attention"]);
}

TEST(ConfigOverrides, DropoutIsDisabled) {
  EXPECT_EQ(after({{"attention_dropout", 0.1}, {"hidden_size", 4}}, {{"disable_dropout", true}}),
            (Json{{"attention_dropout", 0.0}, {"hidden_size", 4}}));
  EXPECT_EQ(after({{"attention_dropout", 0.1}}, {{"disable_dropout", false}}), (Json{{"attention_dropout", 0.1}}));
  EXPECT_EQ(after({{"resid_pdrop", 0.2}}, {{"disable_dropout", true}}, "gpt2"),
            (Json{{"resid_pdrop", 0.0}, {"embd_pdrop", 0.0}, {"attn_pdrop", 0.0}}));
}

TEST(ConfigOverrides, OtherTypesAreNamed) {
  const auto error = [](const Json& overrides) -> std::string {
    try {
      after(kNewer, overrides);
    } catch (const UserError& error) {
      return describe(error);
    }
    return "none";
  };
  EXPECT_THAT(error({{"rope_theta", "x"}}), HasSubstr("[model.model_kwargs.rope_theta] expected float, got str \"x\""));
  EXPECT_THAT(error({{"rope_scaling", 3}}), HasSubstr("[model.model_kwargs.rope_scaling] expected dict, got int 3"));
  EXPECT_THAT(error({{"disable_dropout", 1}}), HasSubstr("[model.model_kwargs.disable_dropout] expected bool, got int 1"));
}

}  // namespace
}  // namespace oumi
