#include <future>
#include <set>
#include <thread>

#include "oumi/data/text/cache_room.h"
#include "oumi/data/text/testing.h"
#include "oumi/data/text/token_file.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TokenCache : public testing::TextDataTest {
 protected:
  DatasetPtr open() {
    notices.clear();
    return make("text_sft", folder.path() / "a.jsonl");
  }
  fs::path entry() {
    for (const auto& one : fs::directory_iterator(folder.path() / "cache" / "tokens")) {
      if (one.path().extension() == ".arrow") return one.path();
    }
    return {};
  }
  void SetUp() override {
    TextDataTest::SetUp();
    file("a.jsonl", R"({"messages": [{"role": "user", "content": "Hello"}]})");
  }
};

TEST_F(TokenCache, SecondRunReads) {
  const TokenIds first = ids(*open(), 0);
  EXPECT_THAT(notices, HasSubstr("1 samples encoded"));
  EXPECT_EQ(ids(*open(), 0), first);
  EXPECT_THAT(notices, HasSubstr("encoded samples are read from"));
}

TEST_F(TokenCache, ChangesMakeANewEntry) {
  open();
  file("a.jsonl", R"({"messages": [{"role": "user", "content": "Hello again"}]})");
  const DatasetPtr changed = open();
  EXPECT_THAT(notices, HasSubstr("1 samples encoded"));
  context.max_length = 3;
  EXPECT_EQ(open()->sample_length(0), 3);
  EXPECT_THAT(notices, HasSubstr("1 samples encoded"));
  context = testing::text_context("plain_spans");
  const DatasetPtr other = open();
  EXPECT_THAT(notices, HasSubstr("1 samples encoded"));
  EXPECT_NE(other->fingerprint(), changed->fingerprint());
}

TEST_F(TokenCache, DamagedEntriesAreWrittenAgain) {
  const TokenIds first = ids(*open(), 0);
  std::string bytes = testing::read(entry());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  testing::write(entry(), bytes);
  EXPECT_EQ(ids(*open(), 0), first);
  EXPECT_THAT(notices, HasSubstr("its hash is not the one it was written with; it is written again"));
  fs::resize_file(entry(), 100);
  EXPECT_EQ(ids(*open(), 0), first);
  EXPECT_THAT(notices, HasSubstr("its size"));
}

TEST_F(TokenCache, MakesRoomForNewEntries) {
  setenv("OUMI_CACHE_GB", "0.000004", 1);  // 4 kB, two entries
  for (const char* name : {"one", "two", "three", "four"})
    file(name + std::string(".jsonl"), R"({"messages": [{"role": "user", "content": "Hello"}]})");
  const auto write_and_open = [&](const std::string& name) {
    notices.clear();
    return make("text_sft", folder.path() / (name + ".jsonl"));
  };
  const auto hours_ago = [&](const fs::path& arrow, int hours) {
    fs::last_write_time(fs::path(arrow).replace_extension(".json"),
                        fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  write_and_open("one");
  const fs::path first = entry();
  ASSERT_LT(fs::file_size(first), 2000u);
  ASSERT_GT(fs::file_size(first), 1000u);
  hours_ago(first, 2);
  const DatasetPtr second = write_and_open("two");
  EXPECT_TRUE(fs::exists(first));
  for (const auto& one : fs::directory_iterator(first.parent_path())) {
    if (one.path().extension() == ".arrow" && one.path() != first) hours_ago(one.path(), 1);
  }
  write_and_open("one");  // which was used just now
  // A process that was killed while it wrote.
  const fs::path left = first.parent_path() / "0123.arrow.tmp-77";
  testing::write(left, "half a file");
  write_and_open("three");
  EXPECT_THAT(notices, HasSubstr("encoded samples of 1 earlier runs"));
  EXPECT_TRUE(fs::exists(first));
  EXPECT_FALSE(fs::exists(left));
  EXPECT_GT(ids(*second, 0).size(), 0u);  // deleted, and still readable where it is open
  // What is being written or opened stays.
  const CacheLock busy(fs::path(first).replace_extension(".lock"));
  hours_ago(first, 9);
  write_and_open("four");
  EXPECT_TRUE(fs::exists(first));
  setenv("OUMI_CACHE_GB", "many", 1);
  EXPECT_THAT(testing::error_of([&] { write_and_open("two"); }), HasSubstr("expected a number of gigabytes, got 'many'"));
  unsetenv("OUMI_CACHE_GB");
}

TEST_F(TokenCache, WhatKilledProcessesLeftIsDeleted) {
  open();
  const fs::path arrow = entry(), tokens = arrow.parent_path();
  const std::string key = arrow.stem().string();
  const auto half = [&](const std::string& name) { testing::write(tokens / name, "half a file"); };
  fs::remove(tokens / (key + ".json"));  // killed between tokens and note
  half(key + ".arrow.tmp-77");
  half(key + ".json.tmp-77");
  half("0123.arrow");
  half("4567.arrow.tmp-78");
  half("4567.lock");
  half("89ab.arrow.tmp-79");
  {
    const CacheLock alive(tokens / "89ab.lock");
    open();
    EXPECT_THAT(notices, HasSubstr("1 samples encoded"));
    std::set<std::string> names;
    for (const auto& one : fs::directory_iterator(tokens)) names.insert(one.path().filename().string());
    EXPECT_THAT(
        names, ::testing::UnorderedElementsAre(key + ".arrow", key + ".json", key + ".lock", "89ab.arrow.tmp-79", "89ab.lock"));
  }
  open();
  EXPECT_THAT(notices, HasSubstr("encoded samples are read from"));
}

TEST_F(TokenCache, ALockWhoseFileWasDeletedIsTakenAgain) {
  const fs::path path = folder.path() / "x.lock";
  auto first = std::make_optional<CacheLock>(path);
  std::promise<void> starts;
  std::thread waiting([&] {
    starts.set_value();
    const CacheLock second(path);
    EXPECT_FALSE(CacheLock::try_lock(path));  // what it holds is what others see
  });
  starts.get_future().wait();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  fs::remove(path);
  first.reset();
  waiting.join();
  EXPECT_TRUE(CacheLock::try_lock(path));
}

TEST_F(TokenCache, WorksWithoutAFolder) {
  setenv("OUMI_CACHE", "/dev/null/nowhere", 1);
  const DatasetPtr dataset = open();
  EXPECT_EQ(dataset->size(), 1);
  EXPECT_THAT(notices, HasSubstr("encoded samples are not kept"));
}

TEST_F(TokenCache, RowsAcrossBatches) {
  const fs::path path = folder.path() / "rows.arrow";
  TokenFileWriter writer(path);
  for (std::int32_t i = 0; i < 2500; ++i) {
    EncodedRow row{.ids = TokenIds(static_cast<std::size_t>(i % 5), i), .labels = std::nullopt, .dropped = i % 3};
    if (i % 2 == 1) row.labels = TokenIds(row.ids.size(), kIgnoredLabel);
    writer.add(std::move(row));
  }
  writer.close();
  const TokenFile file(path);
  ASSERT_EQ(file.rows(), 2500);
  for (const std::int64_t i : {0, 1, 1023, 1024, 2047, 2048, 2499}) {
    const TokenSpan ids = file.ids(i), labels = file.labels(i);
    EXPECT_EQ(TokenIds(ids.begin(), ids.end()), TokenIds(static_cast<std::size_t>(i % 5), static_cast<std::int32_t>(i)));
    const TokenCounts counts = file.counts(i);
    EXPECT_EQ(counts.tokens, i % 5);
    EXPECT_EQ(counts.supervised, i % 2 == 1 ? 0 : i % 5);
    EXPECT_EQ(counts.dropped, i % 3);
    EXPECT_EQ(labels.size(), ids.size());
  }
  EXPECT_THAT(testing::error_of([&] { TokenFile(this->file("bad.arrow", "not an arrow file")); }), HasSubstr("bad.arrow"));
}

}  // namespace
}  // namespace oumi
