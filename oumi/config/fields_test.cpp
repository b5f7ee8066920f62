#include <algorithm>
#include <map>
#include <set>

#include "oumi/base/files.h"
#include "oumi/config/codec.h"
#include "oumi/config/reference.h"
#include "oumi/config/schema.h"
#include "oumi/config/test_support.h"

namespace oumi {
namespace {

// The lists of fields against Oumi's own: names, order, defaults, choices.
TEST(Fields, HoldOumisNamesOrderAndDefaults) {
  const Json facts = read_json_file(source_dir() / "tests/golden/oumi_config_fields.json");
  const std::map<std::string, std::string> sections = {{"TrainingConfig", ""},
                                                       {"DataParams", "data"},
                                                       {"DatasetSplitParams", "data.train"},
                                                       {"DatasetParams", "data.train.datasets"},
                                                       {"ModelParams", "model"},
                                                       {"TrainingParams", "training"},
                                                       {"GrpoParams", "training.grpo"},
                                                       {"GkdParams", "training.gkd"},
                                                       {"GoldParams", "training.gold"},
                                                       {"ProfilerParams", "training.profiler"},
                                                       {"ProfilerScheduleParams", "training.profiler.schedule"},
                                                       {"TelemetryParams", "training.telemetry"},
                                                       {"PeftParams", "peft"},
                                                       {"FSDPParams", "fsdp"},
                                                       {"DeepSpeedParams", "deepspeed"},
                                                       {"OffloadConfig", "deepspeed.offload_param"}};
  TrainingConfig config;
  config.data.train.datasets.emplace_back();
  config.deepspeed.offload_param.emplace();
  const Json written = to_json(config);
  ASSERT_EQ(facts["sections"].size(), sections.size());
  int compared = 0;
  for (const auto& [name, fields] : facts["sections"].items()) {
    const Json* section = &written;
    const std::string& key = sections.at(name);
    for (const std::string& part : key.empty() ? std::vector<std::string>{} : split(key, '.')) section = &section->at(part);
    if (section->is_array()) section = &section->at(0);
    std::vector<std::string> ours;
    for (const auto& [field, value] : section->items()) ours.push_back(field);
    std::size_t last = 0;
    for (const auto& [field, fact] : fields.items()) {
      const auto found = std::find(ours.begin(), ours.end(), field);
      ASSERT_NE(found, ours.end()) << name << "." << field;
      const auto position = static_cast<std::size_t>(found - ours.begin());
      EXPECT_GE(position, last) << name << "." << field << " is out of order";
      last = position;
      const Json& expected = fact["default"];
      // Filled in above, to have an item to look at.
      const bool filled =
          name + "." + field == "DatasetSplitParams.datasets" || name + "." + field == "DeepSpeedParams.offload_param";
      if (expected == "(section)" || filled) continue;
      const Json& value = section->at(field);
      EXPECT_EQ(value, expected == "(required)" ? Json("") : expected) << name << "." << field;
      ++compared;
    }
  }
  EXPECT_GT(compared, 240);
}

TEST(Fields, HoldOumisChoices) {
  const Json facts = read_json_file(source_dir() / "tests/golden/oumi_config_fields.json")["enums"];
  const auto check = [&](const char* name, std::span<const EnumName> names) {
    ASSERT_EQ(facts[name].size(), names.size()) << name;
    std::size_t i = 0;
    for (const auto& [member, value] : facts[name].items()) {
      EXPECT_EQ(member, names[i].name);
      if (member != "PISSA_NITER") {
        EXPECT_EQ(value, names[i].alias);
      }
      ++i;
    }
  };
  check("TrainTarget", enum_names(TrainTarget{}));
  check("TrainerType", enum_names(TrainerType{}));
  check("MixedPrecisionDtype", enum_names(MixedPrecisionDtype{}));
  check("LoraWeightInitialization", enum_names(LoraWeightInitialization{}));
  check("TaskType", enum_names(TaskType{}));
  check("PeftSaveMode", enum_names(PeftSaveMode{}));
  check("ShardingStrategy", enum_names(ShardingStrategy{}));
  check("BackwardPrefetch", enum_names(BackwardPrefetch{}));
  check("StateDictType", enum_names(StateDictType{}));
  check("AutoWrapPolicy", enum_names(AutoWrapPolicy{}));
  check("ZeRORuntimeStage", enum_names(ZeRORuntimeStage{}));
  check("DeepSpeedOffloadDevice", enum_names(DeepSpeedOffloadDevice{}));
  check("DeepSpeedPrecision", enum_names(DeepSpeedPrecision{}));
}

// Documents and dumps read in the order of the struct, and no field is listed twice or without help.
template <class T>
void expect_ordered(const char* name) {
  T instance{};
  const char* begin = reinterpret_cast<const char*>(&instance);
  std::set<std::string> names;
  std::ptrdiff_t previous = -1;
  for (const Field& field : fields_of(&instance)) {
    EXPECT_TRUE(names.insert(field.name).second) << name << " lists " << field.name << " twice";
    const std::ptrdiff_t offset = static_cast<const char*>(field.member(&instance)) - begin;
    EXPECT_GT(offset, previous) << name << "." << field.name << " is not in the order of the struct";
    previous = offset;
    EXPECT_STRNE(field.help, "") << name << "." << field.name;
    EXPECT_EQ(std::string(field.help).find('\n'), std::string::npos);
  }
}

TEST(Fields, FollowTheStructAndHaveHelp) {
  expect_ordered<TrainingConfig>("TrainingConfig");
  expect_ordered<DataParams>("DataParams");
  expect_ordered<DatasetSplitParams>("DatasetSplitParams");
  expect_ordered<DatasetParams>("DatasetParams");
  expect_ordered<ModelParams>("ModelParams");
  expect_ordered<TrainingParams>("TrainingParams");
  expect_ordered<ParameterGroupParams>("ParameterGroupParams");
  expect_ordered<GrpoParams>("GrpoParams");
  expect_ordered<GkdParams>("GkdParams");
  expect_ordered<GoldParams>("GoldParams");
  expect_ordered<ProfilerParams>("ProfilerParams");
  expect_ordered<ProfilerScheduleParams>("ProfilerScheduleParams");
  expect_ordered<TelemetryParams>("TelemetryParams");
  expect_ordered<PeftParams>("PeftParams");
  expect_ordered<FSDPParams>("FSDPParams");
  expect_ordered<DeepSpeedParams>("DeepSpeedParams");
  expect_ordered<OffloadConfig>("OffloadConfig");
  expect_ordered<ParallelParams>("ParallelParams");
}

TEST(Fields, AreFoundByDottedKey) {
  ASSERT_NE(find_field("data.train.datasets[3].split"), nullptr);
  EXPECT_STREQ(find_field("training.profiler.schedule.wait")->unit, "steps");
  EXPECT_EQ(find_field("training.nope"), nullptr);
  EXPECT_EQ(find_field(""), nullptr);
}

TEST(Reference, IsTheFileInDocs) {
  const std::filesystem::path path = source_dir() / "docs/config-reference.md";
  if (std::getenv("OUMI_UPDATE_GOLDEN") != nullptr) write_file_atomically(path, config_reference_markdown());
  EXPECT_EQ(read_text_file(path), config_reference_markdown()) << "regenerate with OUMI_UPDATE_GOLDEN=1";
}

TEST(Reference, HelpNamesEveryKeyWithItsDefault) {
  const std::string help = help_text();
  EXPECT_THAT(help, testing::HasSubstr("training.learning_rate (float, default 5.0e-05)\n"));
  EXPECT_THAT(help, testing::HasSubstr("data.train.datasets[].dataset_name (str, required)\n"));
  EXPECT_THAT(help, testing::HasSubstr("deepspeed.offload_param.device (CPU / NVME, default CPU)"));
  EXPECT_GT(config_keys().size(), 330u);
}

}  // namespace
}  // namespace oumi
