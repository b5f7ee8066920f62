// No setting is taken in silence: each is read by the sources, or the support table says what becomes of it.
#include "oumi/config/support.h"

#include <fstream>
#include <regex>
#include <set>

#include "oumi/base/files.h"
#include "oumi/config/aliases.h"
#include "oumi/config/field_notes.h"
#include "oumi/config/schema.h"
#include "oumi/config/test_support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Every `.name` and `->name` in the sources that act on a config. Declarations, checks and this table do not act.
const std::set<std::string>& names_read() {
  static const std::set<std::string>* const names = [] {
    auto* found = new std::set<std::string>();
    const std::regex member(R"((?:\.|->)([a-z][a-z0-9_]+)\b)");
    for (const char* folder : {"oumi", "cli"}) {
      for (const auto& entry : fs::recursive_directory_iterator(source_dir() / folder)) {
        const std::string path = entry.path().generic_string(), name = entry.path().filename().string();
        if (!path.ends_with(".cpp") && !path.ends_with(".h")) continue;
        if (path.ends_with("_test.cpp") || name.starts_with("validate") || name == "support.cpp" || name == "field_notes.cpp")
          continue;
        const std::string text = read_text_file(entry.path());
        for (auto at = std::sregex_iterator(text.begin(), text.end(), member); at != std::sregex_iterator(); ++at)
          found->insert((*at)[1]);
      }
    }
    return found;
  }();
  return *names;
}

bool is_noted(const std::string& key) {
  for (const FieldNote& note : field_notes()) {
    if (covers(note, key)) return true;
  }
  std::string standard = key;
  for (const std::string split : {"data.test", "data.validation"}) {
    if (key.starts_with(split)) standard = "data.train" + key.substr(split.size());
  }
  return support_table_markdown().find("| `" + standard + "` |") != std::string::npos;
}

std::vector<std::string> leaves() {
  std::vector<std::string> keys;
  visit_fields([&](const std::string& key, const Field& field) {
    if (field.type->children().empty()) keys.push_back(key);
  });
  return keys;
}

TEST(Support, EveryFieldIsReadOrSpokenOf) {
  // Settings that are checked against one that is refused.
  const std::set<std::string> pending = {"training.ddp_backend", "training.reward_function_kwargs"};
  int read = 0;
  for (const std::string& key : leaves()) {
    if (is_noted(key) || pending.contains(key)) continue;
    if (key == "training.trainer_kwargs") continue;  // support.cpp speaks of each of its keys
    EXPECT_TRUE(names_read().contains(key.substr(key.rfind('.') + 1)))
        << key << " is accepted, but nothing reads it: honour it, or add it to oumi/config/field_notes.cpp";
    ++read;
  }
  EXPECT_GT(read, 80);
}

TEST(Support, FieldsOfASwitchedOnSectionAreReadToo) {
  const std::pair<const char*, const char*> sections[] = {{"peft.", "training: {use_peft: true}"},
                                                          {"fsdp.", "fsdp: {enable_fsdp: true}"},
                                                          {"deepspeed.", "deepspeed: {enable_deepspeed: true}"}};
  for (const auto& [section, yaml] : sections) {
    const TrainingConfig config = load_with(yaml);
    bool refused = false;
    for (const SupportNote& note : support_notes(config)) refused = refused || note.kind == SupportKind::kRefused;
    if (refused) continue;
    for (const std::string& key : leaves()) {
      if (!key.starts_with(section)) continue;
      // Of a section within it that is refused whole, its name is enough.
      const std::string within = key.substr(0, key.rfind('.'));
      bool spoken_of = support_table_markdown().find("`" + key + "` |") != std::string::npos ||
                       support_table_markdown().find("`" + within + "` |") != std::string::npos;
      for (const FieldNote& note : field_notes())
        spoken_of = spoken_of || (covers(note, key) && (note.applies == nullptr || note.applies(config)));
      EXPECT_TRUE(spoken_of || names_read().contains(key.substr(key.rfind('.') + 1)))
          << key << " is accepted with the section switched on, but nothing reads it";
    }
  }
}

// Changes every noted field to some valid value and looks for its note.
TEST(Support, EveryNoteIsGiven) {
  const std::vector<std::string> candidates = {"true", "false", "3",       "7",      "0.5",      "x",      "[x]", "{x: 1}",
                                               "info", "debug", "float32", "stage3", "colocate", "server", "auto"};
  std::set<std::string> given;
  int tried = 0;
  for (const std::string& key : leaves()) {
    const FieldNote* note = nullptr;
    for (const FieldNote& candidate : field_notes()) {
      if (covers(candidate, key)) note = &candidate;
    }
    if (note == nullptr || key.find(".enable_fsdp") != key.npos || key.find(".enable_deepspeed") != key.npos) continue;
    std::string override_key = key;
    if (const auto list = override_key.find("[]"); list != std::string::npos) override_key.replace(list, 2, "[0]");
    if (key.starts_with("data.test") || key.starts_with("data.validation")) continue;  // no item to change
    for (const std::string& value : candidates) {
      std::vector<SupportNote> notes;
      try {
        const TrainingConfig config = load_with("", {override_key + "=" + value});
        const auto changed = changed_fields(config);
        if (std::find(changed.begin(), changed.end(), key) == changed.end()) continue;
        notes = support_notes(config);
      } catch (const UserError&) {
        continue;
      }
      ++tried;
      bool found = false;
      for (const SupportNote& one : notes) found = found || (one.key.find(key) != std::string::npos && one.text == note->text);
      EXPECT_TRUE(found) << key << "=" << value;
      if (found) given.insert(note->key);
      break;
    }
  }
  EXPECT_GT(tried, 100);
  for (const FieldNote& note : field_notes()) EXPECT_TRUE(given.contains(note.key)) << note.key;
}

TEST(Support, NotesNameTheFieldsThatWereChanged) {
  const auto notes = support_notes(load_with("peft: {lora_r: 4, lora_alpha: 9}"));
  ASSERT_EQ(notes.size(), 1);
  EXPECT_EQ(notes[0].key, "peft.lora_r, peft.lora_alpha");
  EXPECT_EQ(notes[0].text, "no effect: training.use_peft is off");
  EXPECT_TRUE(support_notes(load_with("training: {label_names: [labels]}")).empty());
  EXPECT_EQ(support_notes(load_with("training: {label_names: [target]}")).at(0).kind, SupportKind::kRefused);
}

// Recipes offload to host memory, where everything of a run on a CPU is.
TEST(Support, OffloadsToHostMemoryOnACpuAlone) {
  const auto kind = [](const std::string& yaml) {
    const TrainingConfig config = load_with(yaml);
    for (const SupportNote& note : support_notes(config)) {
      if (note.key.find("offload") != std::string::npos) return std::string(support_word(note.kind));
    }
    return std::string("none");
  };
  const std::string zero3 = "deepspeed: {enable_deepspeed: true, zero_stage: ZERO_3, ";
  const std::string memory[] = {"fsdp: {enable_fsdp: true, cpu_offload: true}", zero3 + "offload_optimizer: {device: cpu}}",
                                zero3 + "offload_param: {pin_memory: true}}",
                                "training: {trainer_type: TRL_SFT, trainer_kwargs: {activation_offloading: true}}"};
  for (const std::string& yaml : memory) {
    EXPECT_EQ(kind(yaml), "met natively") << yaml;
    EXPECT_NO_THROW(require_supported(load_with(yaml)));
    EXPECT_THAT(user_error([&] { refuse_offloading(load_with(yaml)); }), HasSubstr("expected no offloading")) << yaml;
  }
  EXPECT_EQ(kind(zero3 + "offload_optimizer: {device: nvme}}"), "refused");
  EXPECT_EQ(kind(zero3 + "offload_param: {device: nvme}}"), "refused");
  EXPECT_NO_THROW(refuse_offloading(load_with("fsdp: {enable_fsdp: true}")));
  EXPECT_NO_THROW(
      refuse_offloading(load_with("training: {trainer_type: TRL_SFT, trainer_kwargs: {activation_offloading: false}}")));
}

TEST(Support, SpeaksOfTheAcceleratorConfig) {
  const auto kind = [](const std::string& yaml) {
    const auto notes = support_notes(load_with("training: {accelerator_config: {" + yaml + "}}"));
    return notes.empty() ? std::string("none") : support_word(notes.at(0).kind);
  };
  EXPECT_EQ(kind("split_batches: true"), "refused");
  EXPECT_EQ(kind("split_batches: false"), "none");
  EXPECT_EQ(kind("even_batches: false"), "refused");
  EXPECT_EQ(kind("use_seedable_sampler: false"), "refused");
  EXPECT_EQ(kind("dispatch_batches: true"), "mapped");
  EXPECT_EQ(kind("non_blocking: true"), "mapped");
}

// Every argument of Hugging Face's Trainer has a place under `training.`, under its own name.
TEST(Support, TakesEveryArgumentOfHuggingFacesTrainer) {
  const Json arguments = read_json_file(source_dir() / "tests/golden/hf_training_arguments.json")["arguments"];
  const FieldList fields = fields_of(static_cast<const TrainingParams*>(nullptr));
  for (const Json& argument : arguments) {
    const auto name = argument.get<std::string>();
    bool known = false;
    for (const Field& field : fields) known = known || name == field.name;
    for (const HfAlias& alias : hf_aliases()) known = known || name == alias.name;
    EXPECT_TRUE(known) << name;
  }
  EXPECT_GT(arguments.size(), 110);
}

}  // namespace
}  // namespace oumi
