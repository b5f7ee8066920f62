#include "oumi/data/formats/tabular.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "oumi/data/formats/text_blocks.h"
#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using testing::golden;
using testing::golden_file;
using ::testing::HasSubstr;

struct How {
  Json kwargs = Json::object();
  std::string split = "train";
  bool stream = false;
};

DatasetPtr make(const std::string& name, const fs::path& path, How how = {}) {
  return make_dataset({.name = name,
                       .path = path,
                       .subset = {},
                       .split = how.split,
                       .kwargs = Kwargs(how.kwargs, "dataset_kwargs"),
                       .seed = 0,
                       .stream = how.stream});
}

const Json kLabels = {{"label_column", "name"}, {"class_names", {"eel", "dog", "cat"}}};

void expect_row(const Sample& sample, std::int64_t i) {
  EXPECT_THAT(sample.names(), ElementsAre("id", "score", "tokens", "pair", "grid", "labels"));
  EXPECT_EQ(sample.at("id").item<std::int64_t>(), i);
  EXPECT_EQ(sample.at("score").scalar_type(), c10::kFloat);
  EXPECT_EQ(sample.at("score").item<float>(), static_cast<float>(i) / 4);
  EXPECT_EQ(sample.at("tokens").scalar_type(), c10::kLong);
  EXPECT_TRUE(at::equal(sample.at("tokens"), at::arange(i % 4))) << i;
  EXPECT_TRUE(at::equal(sample.at("pair"), at::tensor({i, i + 1})));
  EXPECT_EQ(sample.at("grid").sizes(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(sample.at("grid")[0][0].item<std::int64_t>(), i);
  EXPECT_EQ(sample.at("labels").item<std::int64_t>(), 2 - i % 3);
}

std::vector<std::int64_t> ids(Dataset& stream) {
  std::vector<std::int64_t> all;
  while (const auto sample = stream.next()) all.push_back(sample->at("id").item<std::int64_t>());
  return all;
}

const std::vector<std::int64_t> kAll = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

class EachFormat : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path file() const { return golden_file(std::string("table.") + GetParam()); }
  Json kwargs() const {
    Json all = kLabels;
    if (std::string(GetParam()) == "jsonl") all["block_size"] = 200;  // several blocks
    return all;
  }
};
INSTANTIATE_TEST_SUITE_P(Tabular, EachFormat, ::testing::Values("parquet", "arrow", "jsonl"));

TEST_P(EachFormat, LoadsIntoMemory) {
  const DatasetPtr dataset = make(GetParam(), file(), {kwargs()});
  ASSERT_TRUE(dataset->is_map_style());
  ASSERT_EQ(dataset->size(), 10);
  for (std::int64_t i = 0; i < 10; ++i) expect_row(dataset->get(i), i);
  EXPECT_THAT(dataset->class_names(), ElementsAre("eel", "dog", "cat"));
  EXPECT_EQ(dataset->get_batch(std::vector<std::int64_t>{7, 3}).at("tokens").sizes(), (std::vector<std::int64_t>{2, 3}));
  EXPECT_THAT(error_of([&] { dataset->get_batch(std::vector<std::int64_t>{7, 2}); }),
              HasSubstr("expected 3 as in sample 7, got 2 in sample 2"));
}

TEST_P(EachFormat, StreamsTheSameRows) {
  const DatasetPtr stream = make(GetParam(), file(), {kwargs(), "train", true});
  ASSERT_TRUE(stream->is_iterable());
  for (int epoch = 0; epoch < 2; ++epoch) {
    stream->set_epoch(epoch);
    for (std::int64_t i = 0; i < 10; ++i) {
      const auto sample = stream->next();
      ASSERT_TRUE(sample);
      expect_row(*sample, i);
    }
    EXPECT_FALSE(stream->next());
    EXPECT_FALSE(stream->next());
  }
}

TEST_P(EachFormat, ResumesFromEveryPosition) {
  for (std::int64_t taken = 0; taken <= 10; ++taken) {
    const DatasetPtr stream = make(GetParam(), file(), {kwargs(), "train", true});
    for (std::int64_t i = 0; i < taken; ++i) ASSERT_TRUE(stream->next());
    const Json state = parse_json(stream->state_dict().dump(), "state");
    EXPECT_LT(state.dump().size(), 300u);
    const DatasetPtr resumed = make(GetParam(), file(), {kwargs(), "train", true});
    resumed->load_state_dict(state);
    EXPECT_EQ(ids(*resumed), std::vector<std::int64_t>(kAll.begin() + taken, kAll.end())) << taken;
  }
}

TEST_P(EachFormat, ShardsCoverEachRowOnce) {
  for (const std::int64_t world_size : {1, 2, 3, 4, 11}) {
    std::vector<std::int64_t> all;
    for (std::int64_t rank = 0; rank < world_size; ++rank) {
      const DatasetPtr stream = make(GetParam(), file(), {kwargs(), "train", true});
      stream->shard(rank, world_size);
      const auto own = ids(*stream);
      for (const std::int64_t id : own) EXPECT_EQ(id % world_size, rank);
      all.insert(all.end(), own.begin(), own.end());
    }
    std::sort(all.begin(), all.end());
    EXPECT_EQ(all, kAll) << world_size;
  }
}

TEST_P(EachFormat, TruncatedFilesAreUserErrors) {
  const TemporaryDirectory folder;
  const std::string whole = testing::read(file());
  for (const double part : {0.0, 0.02, 0.3, 0.6, 0.95}) {
    const fs::path path = folder.path() / (std::string("cut.") + GetParam());
    testing::write(path, whole.substr(0, static_cast<std::size_t>(static_cast<double>(whole.size()) * part)));
    for (const bool stream : {false, true}) {
      const std::string message = error_of([&] {
        const DatasetPtr dataset = make(GetParam(), path, {kLabels, "train", stream});
        while (stream && dataset->next()) {
        }
      });
      EXPECT_THAT(message, HasSubstr(path.string())) << part << stream;
    }
  }
}

TEST(Tabular, StringsNeedARole) {
  const auto message = error_of([] { make("parquet", golden_file("table.parquet")); });
  EXPECT_THAT(message,
              AllOf(HasSubstr("column 'name': expected numbers or lists of numbers, got string"), HasSubstr("label_column")));
  // Without names, classes are the sorted strings.
  const DatasetPtr sorted = make("parquet", golden_file("table.parquet"), {{{"columns", {"id"}}, {"label_column", "name"}}});
  EXPECT_THAT(sorted->class_names(), ElementsAre("cat", "dog", "eel"));
  EXPECT_EQ(sorted->get(4).at("labels").item<std::int64_t>(), 1);
  EXPECT_THAT(error_of([] { make("parquet", golden_file("table.parquet"), {{{"label_column", "name"}}, "train", true}); }),
              HasSubstr("class_names"));
  EXPECT_THAT(error_of([] {
                make("parquet", golden_file("table.parquet"), {{{"label_column", "name"}, {"class_names", {"cat", "dogs"}}}});
              }),
              AllOf(HasSubstr("label 'dog' in row 1 is none of class_names"), HasSubstr("did you mean 'dogs'?")));
}

TEST(Tabular, ColumnsRenameDtypesAndStack) {
  const Json kwargs = {{"columns", {"score", "id", "pair"}},
                       {"rename", {{"pair", "labels"}}},
                       {"dtypes", {{"pair", "float64"}}},
                       {"stack", {{"inputs", {"score", "id"}}}}};
  const DatasetPtr dataset = make("parquet", golden_file("table.parquet"), {kwargs});
  const Sample sample = dataset->get(8);
  EXPECT_THAT(sample.names(), ElementsAre("labels", "inputs"));
  EXPECT_TRUE(at::equal(sample.at("inputs"), at::tensor({2.0f, 8.0f})));
  EXPECT_EQ(sample.at("labels").scalar_type(), c10::kDouble);
  EXPECT_THAT(error_of([] { make("parquet", golden_file("table.parquet"), {{{"columns", {"scroe"}}}}); }),
              HasSubstr("did you mean 'score'?"));
  EXPECT_THAT(
      error_of([] { make("parquet", golden_file("table.parquet"), {{{"columns", {"id"}}, {"dtypes", {{"id", "float33"}}}}}); }),
      HasSubstr("did you mean 'float32'?"));
  EXPECT_THAT(error_of([] { make("parquet", golden_file("table.parquet"), {{{"colums", {"id"}}, {"columns", {"id"}}}}); }),
              HasSubstr("did you mean 'columns'?"));
}

TEST(Tabular, FoldersOfSaveToDisk) {
  const DatasetPtr train = make("arrow", golden_file("saved"), {{{"label_column", "label"}}});
  ASSERT_EQ(train->size(), 3);
  EXPECT_EQ(train->get(2).at("x").item<int>(), 3);
  EXPECT_EQ(train->get(2).at("labels").item<int>(), 1);
  EXPECT_THAT(train->class_names(), ElementsAre("no", "yes"));
  EXPECT_EQ(make("pretokenized", golden_file("saved"), {Json::object(), "test"})->size(), 1);
  EXPECT_THAT(error_of([] { make("arrow", golden_file("saved"), {Json::object(), "validation"}); }),
              HasSubstr("nothing for split 'validation'"));
}

TEST(Csv, QuotesNewlinesAndBlocks) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "train.csv";
  std::string text = "\xEF\xBB\xBFid,w,note\r\n";
  for (int i = 0; i < 50; ++i)
    text += std::to_string(i) + "," + std::to_string(i) + ".5,\"line one\r\nsays \"\"" + std::to_string(i) + "\"\"\"\r\n";
  testing::write(path, text);
  for (const int block_size : {1, 30, 64, 1000000}) {
    const Json kwargs = {{"columns", {"id", "w"}}, {"block_size", block_size}};
    EXPECT_EQ(make("csv", path, {kwargs})->size(), 50);
    const DatasetPtr stream = make("csv", path, {kwargs, "train", true});
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(stream->next());
    const Json state = stream->state_dict();
    const DatasetPtr resumed = make("csv", path, {kwargs, "train", true});
    resumed->load_state_dict(state);
    EXPECT_EQ(ids(*resumed).size(), 30u);
  }
  EXPECT_EQ(complete_records("a,\"b\nc", TabularFormat::kCsv), 0u);
  EXPECT_EQ(complete_records("a\n\"b\nc", TabularFormat::kCsv), 2u);
}

TEST(Csv, SaysWhatIsBroken) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "x.csv";
  const auto message = [&](const std::string& text, Json kwargs = Json::object()) {
    testing::write(path, text);
    return error_of([&] { make("csv", path, {kwargs}); });
  };
  EXPECT_THAT(message(""), HasSubstr("got an empty one"));
  EXPECT_THAT(message("a,b\n"), HasSubstr("expected rows, got none"));
  EXPECT_THAT(message("a,b\n1,2\n3\n"), AllOf(HasSubstr("x.csv"), HasSubstr("Expected 2 columns, got 1")));
  EXPECT_THAT(message("a,b\n1,2\n3,\n"), HasSubstr("column 'b': expected a number, got nothing (null) in row 1"));
  EXPECT_THAT(message("a,b\n1,x\n"), HasSubstr("column 'b': expected numbers"));
  EXPECT_THAT(message("a,b\n1,2\n", {{"delimiter", "ab"}}), HasSubstr("expected one character"));
  EXPECT_THAT(message("a,a\n1,2\n"), HasSubstr("column 'a' is there twice"));
  EXPECT_THAT(error_of([&] { make("csv", path, {Json::object(), "test"}); }), HasSubstr("a single file is one split"));
  EXPECT_THAT(error_of([&] { make("csv", folder.path() / "none.csv"); }), HasSubstr("no such file or folder"));
  EXPECT_THAT(error_of([&] { make("parquet", folder.path()); }), HasSubstr("expected parquet files, got none"));
}

TEST(Csv, StreamKeepsTheFirstBlocksTypes) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "x.csv";
  testing::write(path, "id,w\n0,1\n1,2.5\n");
  const Json small = {{"block_size", 9}};
  const DatasetPtr stream = make("csv", path, {small, "train", true});
  ASSERT_TRUE(stream->next());
  EXPECT_THAT(error_of([&] { stream->next(); }),
              AllOf(HasSubstr("column 'w': expected Long as in the first block, got Float from row 1"), HasSubstr("dtypes.w")));
  Json typed = small;
  typed["dtypes"] = {{"w", "float32"}};
  EXPECT_EQ(ids(*make("csv", path, {typed, "train", true})).size(), 2u);
  // In memory the wider type wins.
  EXPECT_EQ(make("csv", path, {small})->get(0).at("w").scalar_type(), c10::kFloat);
}

TEST(Jsonl, SaysWhatIsBroken) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "x.jsonl";
  const auto message = [&](const std::string& text) {
    testing::write(path, text);
    return error_of([&] { make("jsonl", path); });
  };
  EXPECT_THAT(message("{\"a\": 1}\n{\"a\": \n"), AllOf(HasSubstr("x.jsonl"), HasSubstr("JSON parse error")));
  EXPECT_THAT(message("{\"a\": 1}\n{\"b\": 2}\n"), HasSubstr("got nothing (null) in row 1"));
  EXPECT_THAT(message("{\"a\": [[1], [1, 2]]}\n"), HasSubstr("inner lists differ in length"));
  EXPECT_THAT(message("\n\n"), HasSubstr("expected rows, got none"));
}

TEST(Tabular, SplitsAreFoundByFileName) {
  const TemporaryDirectory folder;
  testing::write(folder.path() / "train-00000-of-00002.jsonl", "{\"id\": 0}\n");
  testing::write(folder.path() / "train-00001-of-00002.jsonl", "{\"id\": 1}\n{\"id\": 2}");
  testing::write(folder.path() / "valid" / "part.jsonl", "{\"id\": 9}\n");
  EXPECT_EQ(make("jsonl", folder.path())->size(), 3);
  EXPECT_EQ(make("jsonl", folder.path(), {Json::object(), "validation"})->size(), 1);
  EXPECT_EQ(ids(*make("jsonl", folder.path(), {Json::object(), "train", true})), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_THAT(error_of([&] { make("jsonl", folder.path(), {Json::object(), "test"}); }), HasSubstr("there are:"));
}

}  // namespace
}  // namespace oumi
