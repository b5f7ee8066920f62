#include <cmath>
#include <limits>
#include <random>

#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/config/scalars.h"
#include "oumi/config/test_support.h"
#include "oumi/config/yaml_reader.h"
#include "oumi/config/yaml_writer.h"

namespace oumi {
namespace {

using testing::HasSubstr;

// OmegaConf's own answers (tests/golden/config_typing.py).
TEST(Typing, AgreesWithOmegaConf) {
  const Json rows = read_json_file(source_dir() / "tests/golden/config_typing.json");
  const Json start = to_json(load_with(""));
  int accepted = 0, refused = 0;
  for (const Json& row : rows) {
    std::string text = row[0].get<std::string>();
    if (text.starts_with('@')) text = kBase + text.substr(1);
    const auto overrides = row[1].get<std::vector<std::string>>();
    const std::string what = text + " <- " + row[1].dump();
    // Where we are kinder on purpose: enumerators by value or in any case, fractions of steps, and Python's unbounded integers.
    const bool huge =
        text.find("9223372036854775808") != std::string::npos || row[1].dump().find("9223372036854775808") != std::string::npos;
    // A key alone is no override on our command line, and OmegaConf trips over a dict for a dict that is null.
    const bool odd = (!overrides.empty() && overrides[0].find('=') == std::string::npos) || row[2] == "AttributeError" ||
                     row[2] == "AssertionError";
    if (huge || odd) continue;
    Json got;
    std::string error;
    try {
      got = to_json(load_config_text(text, "c.yaml", overrides));
    } catch (const UserError& thrown) {
      error = thrown.what();
    }
    if (row[2].is_string()) {
      EXPECT_NE(error, "") << what << " is refused by OmegaConf: " << row[2];
      ++refused;
      continue;
    }
    // Rules beyond types may refuse what OmegaConf alone lets through.
    if (error.find("expected at least") != std::string::npos ||
        error.find("an int of at least 0, or auto") != std::string::npos ||
        error.find("expected none unless") != std::string::npos || error.find("required and missing") != std::string::npos ||
        error.find("with offload_param") != std::string::npos) {
      continue;
    }
    EXPECT_EQ(error, "") << what;
    if (!error.empty()) continue;
    ++accepted;
    for (const auto& [key, expected] : row[2].items()) {
      const Json* value = &got;
      for (const std::string& part : split(key, '.')) value = &value->at(part);
      if (expected.is_object() && expected.contains("float")) {
        EXPECT_EQ(python_repr(value->get<double>()), expected["float"]) << what;
      } else if (key == "data.train.datasets") {
        for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_EQ((*value)[i], expected[i]) << what;
      } else if (expected.dump().find("\"float\":\"") == std::string::npos) {
        EXPECT_EQ(*value, expected) << what << " at " << key;
      }
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(refused, 500);
}

TEST(Typing, EnumsTakeNamesAndValuesInAnyCase) {
  EXPECT_EQ(load_with("training: {trainer_type: trl_sft}").training.trainer_type, TrainerType::kTrlSft);
  EXPECT_EQ(load_with("training: {trainer_type: Oumi}").training.trainer_type, TrainerType::kOumi);
  EXPECT_EQ(load_with("deepspeed: {zero_stage: 3}").deepspeed.zero_stage, ZeRORuntimeStage::kZero3);
  EXPECT_THAT(to_yaml(load_with("training: {trainer_type: trl_sft}")), HasSubstr("trainer_type: TRL_SFT\n"));
}

TEST(Yaml, RefusesDuplicatesTabsAndBadBytes) {
  EXPECT_EQ(load_error("training:\n  seed: 1\n  seed: 2\n"),
            "[c.yaml] duplicate key 'seed' at line 5, column 3; it was set at line 4 | remove one of the two");
  EXPECT_THAT(load_error("training:\n\tseed: 1\n"), HasSubstr("YAML is indented with spaces; line 4 has a tab"));
  EXPECT_THAT(load_error("training: {run_name: \"\xff\"}\n"),
              HasSubstr("expected UTF-8 text, got byte 0xff at line 3, column 23"));
  EXPECT_THAT(load_error(std::string("a: \0b", 5)), HasSubstr("got byte 0x00"));
  EXPECT_THAT(load_error("a: \xed\xa0\x80"), HasSubstr("got byte 0xed"));
  EXPECT_THAT(load_error("training: {seed: 1\n"), HasSubstr("[c.yaml] not valid YAML at line "));
  for (const char* open : {"'", "\"", "'a", "[", "{a"})
    EXPECT_THAT(load_error("", {std::string("training.run_name=") + open}), HasSubstr("expected a YAML value")) << open;
  EXPECT_THAT(load_error("training:\n  run_name: \"abc\n  seed: 1\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(load_error("training:\n  run_name: 'abc"), HasSubstr("not valid YAML"));
  EXPECT_EQ(load_with("training:\n  run_name: |+\n    a\n\n").training.run_name, "a\n\n");
  EXPECT_THAT(load_error("training: {seed: !thing 5}\n"), HasSubstr("the tag !thing does not fit '5'"));
  EXPECT_THAT(load_error("---\na: 1\n"), HasSubstr("expected one YAML document"));
  EXPECT_THAT(user_error([] { load_config_text("[1, 2]", "c.yaml"); }),
              HasSubstr("[c.yaml] expected sections such as model and training, got list of 2"));
  EXPECT_THAT(user_error([] { load_config_text("just text", "c.yaml"); }), HasSubstr("got str 'just text'"));
}

TEST(Yaml, ExpandsAnchorsAndMergeKeys) {
  const TrainingConfig config = load_with(
      "peft: &p {lora_r: 4}\ntraining:\n  trainer_kwargs:\n    <<: *p\n    b: 2\n  run_name: &n x\n  output_dir: *n\n");
  EXPECT_EQ(config.training.trainer_kwargs.dump(), R"({"lora_r":4,"b":2})");
  EXPECT_EQ(config.training.output_dir, "x");
  EXPECT_THAT(load_error("training: {trainer_kwargs: &a {b: *a}}"), HasSubstr("an alias inside of the value that it names"));
  EXPECT_THAT(load_error("training: {run_name: *nowhere}"), HasSubstr("not valid YAML"));
}

TEST(Yaml, StopsAtAliasesThatMultiply) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) text += (k > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    text += "]\n";
  }
  EXPECT_THAT(user_error([&] { parse_yaml(text, "bomb"); }), HasSubstr("expected at most 1000000 values"));
}

TEST(Yaml, StopsAtDepthWithoutRunningOutOfStack) {
  for (const int depth : {150, 250, 5000, 200000}) {
    const std::string flow =
        "a: " + std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']');
    const std::string error = user_error([&] { parse_yaml(flow, "deep"); });
    if (depth < 200) {
      EXPECT_EQ(error, "no error");
    } else {
      EXPECT_THAT(error, HasSubstr("[deep]")) << depth;
    }
  }
}

TEST(Yaml, ReadsHugeFilesInLinearTime) {
  std::string text = "training:\n  trainer_kwargs:\n";
  for (int i = 0; i < 100000; ++i) text += "    key" + std::to_string(i) + ": " + std::to_string(i) + "\n";
  const Value tree = parse_yaml(text, "huge");
  EXPECT_EQ(tree.find("training")->find("trainer_kwargs")->entries.size(), 100000u);
}

TEST(Yaml, EmptyFilesSetNothing) {
  for (const char* empty : {"", "\n", "# only a comment\n", "---\n", "null\n", "\xef\xbb\xbf"}) {
    EXPECT_EQ(parse_yaml(empty, "e").kind, Value::Kind::kNull) << empty;
  }
}

TEST(Scalars, FloatsHaveADotAndTheShortestDigits) {
  EXPECT_EQ(yaml_float(1e-5), "1.0e-05");
  EXPECT_EQ(yaml_float(5e-5), "5.0e-05");
  EXPECT_EQ(yaml_float(1e16), "1.0e+16");
  EXPECT_EQ(yaml_float(0.1), "0.1");
  EXPECT_EQ(yaml_float(-0.0), "-0.0");
  EXPECT_EQ(yaml_float(123456.0), "123456.0");
  EXPECT_EQ(yaml_float(INFINITY), ".inf");
  EXPECT_EQ(yaml_float(-INFINITY), "-.inf");
  EXPECT_EQ(yaml_float(NAN), ".nan");
  EXPECT_EQ(python_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(python_repr(5e-324), "5e-324");
}

TEST(Scalars, StringsThatLookLikeSomethingElseAreQuoted) {
  for (const char* text :
       {"",      "yes",  "No",   "y",    "N",          "on",  "true", "null", "~",    "1",   "1.5", "1e3", "0x1F", "0o7",
        "1_000", "1:30", ".inf", ".nan", "2020-01-01", "-",   "- a",  "a: b", "a #b", " a",  "a ",  "@a",  "%a",   "&a",
        "*a",    "!a",   "{a",   "[a",   "'a",         "\"a", "a\nb", "<<",   "=",    "NaN", "inf", "?"}) {
    EXPECT_EQ(yaml_string(text).front(), '"') << text;
    const Value back = parse_yaml(yaml_string(text), "s");
    ASSERT_EQ(back.kind, Value::Kind::kString) << text;
    EXPECT_EQ(back.scalar, text);
  }
  EXPECT_EQ(yaml_string("meta-llama/Llama-3.1-8B"), "meta-llama/Llama-3.1-8B");
}

std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kPieces = {
      "a",    "Z",    "0",   "1",      "-",      ".",      ":",          ": ",   " #",   " ",      "\n",     "\t", "\"", "'",
      "\\",   "{",    "}",   "[",      "]",      ",",      "&",          "*",    "!",    "|",      ">",      "%",  "@",  "`",
      "true", "null", "1e3", "\u00e9", "\u2028", "\u00a0", "\U0001F600", "\x01", "\x7f", "\u0085", "\ufeff", "=",  "~",  "_"};
  std::string text;
  for (auto n = random() % 6; n > 0; --n) text += kPieces[random() % kPieces.size()];
  return text;
}

Json random_json(std::mt19937& random, int depth) {
  switch (random() % (depth > 0 ? 8 : 6)) {
    case 0: return nullptr;
    case 1: return random() % 2 == 0;
    case 2: return static_cast<std::int64_t>(random()) - 2147483648;
    case 3: return std::ldexp(static_cast<double>(random()) - 2e9, static_cast<int>(random() % 200) - 100);
    case 6: {
      Json list = Json::array();
      for (auto n = random() % 4; n > 0; --n) list.push_back(random_json(random, depth - 1));
      return list;
    }
    case 7: {
      Json dict = Json::object();
      for (auto n = random() % 4; n > 0; --n) dict[random_text(random)] = random_json(random, depth - 1);
      return dict;
    }
    default: return random_text(random);
  }
}

TEST(Writer, RoundTripsAnything) {
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const Json value = random_json(random, 4);
    const std::string text = json_to_yaml(value);
    std::string back;
    try {
      back = value_to_json(parse_yaml(text, "w"), "w").dump();
    } catch (const UserError& error) {
      back = error.what();
    }
    ASSERT_EQ(back, value.dump()) << text;
  }
  Json long_key;
  long_key[std::string(3000, 'k')] = Json{{"a", {1, 2}}};
  EXPECT_EQ(value_to_json(parse_yaml(json_to_yaml(long_key), "k"), "k"), long_key);
}

TEST(Writer, ConfigsAreFixedPoints) {
  std::mt19937 random(11);
  for (int i = 0; i < 200; ++i) {
    TrainingConfig config = load_with("");
    config.training.trainer_kwargs["x"] = random_json(random, 3);
    config.model.model_kwargs[random_text(random)] = random_json(random, 3);
    config.training.run_name = random_text(random);
    config.training.learning_rate = std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 100) - 60);
    config.training.save_steps = random() % 2 == 0 ? 0.25 : static_cast<double>(random() % 1000);
    config.training.reward_functions = std::vector<std::string>{""};
    config.training.class_weights = {1, 0.5};
    config.training.parameter_groups = {{.pattern = "^fc", .learning_rate = 1e-3, .weight_decay = {}, .freeze = false}};
    config.deepspeed.reduce_bucket_size = "auto";
    const std::string text = to_yaml(config);
    const TrainingConfig back = load_config_text(text);
    ASSERT_EQ(to_yaml(back), text);
    ASSERT_TRUE(back == config) << text;
  }
}

TEST(Writer, RecipesAreFixedPoints) {
  const char* data = std::getenv("OUMI_SHARED_DATA");
  const std::filesystem::path folder =
      (data == nullptr ? source_dir() / "../shared/data" : std::filesystem::path(data)) / "oumi/recipes";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no recipes here";
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const TrainingConfig config = load_config(file.path());
    const std::string text = to_yaml(config);
    EXPECT_EQ(to_yaml(load_config_text(text)), text) << file.path();
    ++count;
  }
  EXPECT_EQ(count, 104);
}

TEST(Diff, ListsLeavesByDottedKey) {
  const TrainingConfig before = load_with("training: {trainer_kwargs: {a: 1, b: 2}}");
  const TrainingConfig after =
      load_with("training: {seed: 7, trainer_kwargs: {a: 1, c: 3}}", {"data.train.datasets[0].split=x"});
  std::vector<std::string> lines;
  for (const ConfigDifference& d : diff(before, after)) lines.push_back(d.key + " " + d.before.dump() + " " + d.after.dump());
  EXPECT_THAT(lines, testing::ElementsAre("data.train.datasets[0].split \"train\" \"x\"", "training.seed 42 7",
                                          "training.trainer_kwargs.b 2 null", "training.trainer_kwargs.c null 3"));
  EXPECT_TRUE(diff(before, before).empty());
}

}  // namespace
}  // namespace oumi
