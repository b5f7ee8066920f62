#include "oumi/checkpoint/checkpoint_writer.h"

#include <ATen/ATen.h>

#include <random>

#include "oumi/base/strings.h"
#include "oumi/checkpoint/atomic_directory.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/rotation.h"
#include "oumi/checkpoint/test_support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing_support::error_of;
using testing_support::flip_bit;
using testing_support::write_bytes;

class Checkpoint : public testing::Test {
 protected:
  fs::path save(std::int64_t step, float value = 1) {
    CheckpointWriter writer(out_, step);
    writer.add_weights({{"w", at::full({100}, value)}});
    writer.add_state("optimizer.safetensors", {{"w.exp_avg", at::full({100}, value)}});
    writer.add_json("trainer_state.json", {{"global_step", step}, {"loss", 0.1 + 0.2}});
    writer.add_text("rng/state.txt", "state");
    return writer.commit();
  }
  std::vector<std::string> listing() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(out_)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  TemporaryDirectory folder_;
  fs::path out_ = folder_.path() / "out";
};

TEST_F(Checkpoint, IsWholeOrAbsent) {
  {
    CheckpointWriter writer(out_, 5);
    writer.add_text("a.txt", "a");
    EXPECT_THAT(writer.directory().filename().string(), HasSubstr("checkpoint-5.tmp-"));
    EXPECT_THAT(list_checkpoints(out_), IsEmpty());
    EXPECT_FALSE(find_resume_checkpoint(out_).checkpoint);
  }
  EXPECT_THAT(listing(), IsEmpty());
  const fs::path path = save(5);
  EXPECT_EQ(path, out_ / "checkpoint-5");
  EXPECT_THAT(listing(), ElementsAre("checkpoint-5"));
  const VerifyReport report = verify_checkpoint(path);
  EXPECT_TRUE(report.ok()) << report.summary();
  EXPECT_EQ(report.manifest.step, 5);
  std::vector<std::string> files;
  for (const auto& [name, digest] : report.manifest.files) files.push_back(name);
  EXPECT_THAT(files, ElementsAre("model.safetensors", "optimizer.safetensors", "rng/state.txt", "trainer_state.json"));
  EXPECT_THAT(read_text_file(path / "trainer_state.json"), HasSubstr("\"loss\": 0.30000000000000004"));
}

TEST_F(Checkpoint, EqualStatesGiveEqualManifests) {
  save(1);
  const std::string first = read_text_file(out_ / "checkpoint-1/manifest.json");
  fs::remove_all(out_);
  save(1);
  EXPECT_EQ(read_text_file(out_ / "checkpoint-1/manifest.json"), first);
}

TEST_F(Checkpoint, FilesOfOthersAreHashedAtCommit) {
  CheckpointWriter writer(out_, 3);
  write_bytes(writer.directory() / "config.json", "{}");
  CheckpointFiles other_rank(writer.directory());
  other_rank.add_text("rng_state_1.json", "[1]");
  writer.add_text("changed.txt", "before");
  write_bytes(writer.directory() / "changed.txt", "after, and longer");
  const VerifyReport report = verify_checkpoint(writer.commit());
  EXPECT_TRUE(report.ok()) << report.summary();
  EXPECT_EQ(report.manifest.files.size(), 3u);
}

TEST_F(Checkpoint, MissingFilesStopTheCommit) {
  CheckpointWriter writer(out_, 3);
  writer.add_text("a.txt", "a");
  fs::remove(writer.directory() / "a.txt");
  EXPECT_THAT(error_of<EnvironmentError>([&] { writer.commit(); }),
              HasSubstr("a.txt: vanished before the checkpoint was complete"));
}

TEST_F(Checkpoint, NamesStayInside) {
  CheckpointWriter writer(out_, 1);
  for (const char* name : {"", "../x", "/x", "a/../../x", "manifest.json", "a/"})
    EXPECT_THROW(writer.add_text(name, ""), InternalError) << name;
  EXPECT_THAT(error_of<UserError>([&] { writer.add_json("a.json", "\xff"); }), HasSubstr("expected text in UTF-8"));
}

TEST_F(Checkpoint, IsReplacedByALaterSave) {
  save(2, 1);
  save(2, 7);
  EXPECT_THAT(listing(), ElementsAre("checkpoint-2"));
  EXPECT_EQ(load_safetensors(out_ / "checkpoint-2/model.safetensors").at("w")[0].item<float>(), 7);
  EXPECT_TRUE(verify_checkpoint(out_ / "checkpoint-2").ok());
}

TEST_F(Checkpoint, EveryChangedBitIsFound) {
  save(1);
  const fs::path path = save(2);
  std::mt19937 random(3);
  std::vector<std::string> names{"manifest.json"};
  for (const auto& [name, digest] : verify_checkpoint(path).manifest.files) names.push_back(name);
  for (const std::string& name : names) {
    const auto size = fs::file_size(path / name);
    for (int round = 0; round < 20; ++round) {
      const std::size_t at = random() % size;
      const int bit = static_cast<int>(random() % 8);
      flip_bit(path / name, at, bit);
      const VerifyReport report = verify_checkpoint(path);
      ASSERT_FALSE(report.ok()) << name << " byte " << at << " bit " << bit;
      if (name != "manifest.json") {
        ASSERT_EQ(report.problems.size(), 1u);
        EXPECT_EQ(report.problems[0].file, name);
        EXPECT_THAT(report.problems[0].message, HasSubstr("expected xxh3_128 " + report.manifest.files.at(name).xxh3_128 +
                                                          ", got " + hash_file(path / name)));
      }
      const ResumeSearch search = find_resume_checkpoint(out_);
      EXPECT_EQ(search.step, 1);
      ASSERT_EQ(search.skipped.size(), 1u);
      EXPECT_EQ(search.skipped[0].path, path);
      EXPECT_THAT(search.skipped[0].reason, HasSubstr(name));
      flip_bit(path / name, at, bit);
      ASSERT_TRUE(verify_checkpoint(path).ok());
    }
  }
}

TEST_F(Checkpoint, EveryChangedManifestIsFound) {
  save(2);
  const std::string good = read_text_file(out_ / "checkpoint-2/manifest.json");
  std::mt19937 random(5);
  for (int round = 0; round < 10000; ++round) {
    std::string text = good;
    const std::size_t at = random() % text.size();
    switch (random() % 3) {
      case 0: text[at] = static_cast<char>(random()); break;
      case 1: text.erase(at, 1 + random() % 20); break;
      default: text.insert(at, std::string(1 + random() % 3, " \n0\"{"[random() % 5])); break;
    }
    if (text == good) continue;
    EXPECT_THROW(parse_manifest(text, "m"), UserError) << text;
  }
}

TEST_F(Checkpoint, TruncatedAndMissingFilesAreFound) {
  const fs::path path = save(4);
  fs::resize_file(path / "model.safetensors", 10);
  EXPECT_THAT(verify_checkpoint(path).summary(), HasSubstr("model.safetensors: expected 592 bytes, got 10"));
  fs::remove(path / "model.safetensors");
  fs::create_directory(path / "model.safetensors");
  EXPECT_THAT(verify_checkpoint(path).summary(), HasSubstr("model.safetensors: is missing: expected 592 bytes"));
  fs::remove(path / "manifest.json");
  EXPECT_THAT(verify_checkpoint(path).summary(), HasSubstr("manifest.json: is missing: the checkpoint is incomplete"));
  EXPECT_THAT(verify_checkpoint(out_ / "no").summary(), HasSubstr("the folder does not exist"));
}

TEST_F(Checkpoint, ARenamedFolderIsFound) {
  save(4);
  fs::rename(out_ / "checkpoint-4", out_ / "checkpoint-40");
  EXPECT_THAT(verify_checkpoint(out_ / "checkpoint-40").summary(), HasSubstr("expected step 40 by the folder's name, got 4"));
  fs::rename(out_ / "checkpoint-40", out_ / "best");
  EXPECT_TRUE(verify_checkpoint(out_ / "best").ok());
}

TEST_F(Checkpoint, ManifestsNameNoFilesOutside) {
  const std::string text = to_json_text({1, {{"../secret", {1, "00"}}}});
  EXPECT_THAT(error_of<UserError>([&] { parse_manifest(text, "m"); }),
              HasSubstr("expected paths inside the checkpoint, got '../secret'"));
  EXPECT_THAT(error_of<UserError>([&] { parse_manifest("{\"format\": \"other\"}", "m"); }),
              HasSubstr("expected format oumi-checkpoint"));
}

TEST(CheckpointStep, Names) {
  EXPECT_EQ(checkpoint_step("out/checkpoint-500"), 500);
  EXPECT_EQ(checkpoint_step("out/checkpoint-500/"), 500);
  EXPECT_EQ(checkpoint_step("checkpoint-0"), 0);
  for (const char* name : {"checkpoint-", "checkpoint-5x", "checkpoint--5", "checkpoint-05", "checkpoint-5.tmp-1",
                           "Checkpoint-5", "checkpoint-99999999999999999999", "xcheckpoint-5", ""}) {
    EXPECT_FALSE(checkpoint_step(name)) << name;
  }
}

// --- resume ---

TEST_F(Checkpoint, ResumeTakesTheNewestByNumber) {
  save(9);
  save(10);
  fs::create_directory(out_ / "checkpoint-11");
  write_bytes(out_ / "checkpoint-99", "a file");
  const ResumeSearch search = find_resume_checkpoint(out_);
  EXPECT_EQ(search.checkpoint, out_ / "checkpoint-10");
  EXPECT_EQ(search.step, 10);
  ASSERT_EQ(search.skipped.size(), 1u);
  EXPECT_THAT(search.skipped[0].reason, HasSubstr("manifest.json: is missing"));
  EXPECT_FALSE(find_resume_checkpoint(folder_.path() / "absent").checkpoint);
}

TEST_F(Checkpoint, AnExplicitCheckpointIsChecked) {
  save(1);
  save(2);
  EXPECT_EQ(check_resume_checkpoint(out_ / "checkpoint-1").step, 1);
  flip_bit(out_ / "checkpoint-2/model.safetensors", 300, 0);
  const std::string message = error_of<UserError>([&] { check_resume_checkpoint(out_ / "checkpoint-2"); });
  EXPECT_THAT(message, HasSubstr("the checkpoint is damaged: model.safetensors: expected xxh3_128"));
  EXPECT_THAT(message, HasSubstr("| the newest whole checkpoint there is " + (out_ / "checkpoint-1").string()));
  EXPECT_THAT(error_of<UserError>([&] { check_resume_checkpoint(out_ / "checkpoint-3"); }),
              HasSubstr("the checkpoint does not exist"));
}

TEST_F(Checkpoint, AForeignCheckpointNeedsTheFlag) {
  const fs::path path = out_ / "checkpoint-30";
  fs::create_directories(path);
  EXPECT_THAT(error_of<UserError>([&] { check_resume_checkpoint(path, {.allow_without_manifest = true}); }),
              HasSubstr("expected manifest.json or trainer_state.json, got neither"));
  write_bytes(path / "trainer_state.json", R"({"global_step": 30})");
  EXPECT_THAT(error_of<UserError>([&] { check_resume_checkpoint(path, {.allow_without_manifest = true}); }),
              HasSubstr("has no weights"));
  save_safetensors(path / "model.safetensors", {{"w", at::zeros({1})}});
  EXPECT_THAT(error_of<UserError>([&] { check_resume_checkpoint(path); }), HasSubstr("manifest.json: is missing"));
  const ResumeSearch search = check_resume_checkpoint(path, {.allow_without_manifest = true});
  EXPECT_EQ(search.step, 30);
  EXPECT_THAT(search.warning, HasSubstr("has no manifest.json"));
  EXPECT_FALSE(find_resume_checkpoint(out_).checkpoint);
}

// --- rotation ---

TEST_F(Checkpoint, RotationKeepsNewestAndBest) {
  for (const int step : {1, 2, 10, 20, 30}) save(step);
  // Times say nothing: the oldest folder is the last one touched.
  fs::last_write_time(out_ / "checkpoint-1", fs::file_time_type::clock::now() + std::chrono::hours(1));
  const RotationResult result = rotate_checkpoints(out_, {.save_total_limit = 3, .best_step = 2});
  EXPECT_THAT(result.removed, ElementsAre(out_ / "checkpoint-1", out_ / "checkpoint-10"));
  EXPECT_THAT(result.failed, IsEmpty());
  EXPECT_THAT(listing(), ElementsAre("checkpoint-2", "checkpoint-20", "checkpoint-30"));
  rotate_checkpoints(out_, {.save_total_limit = 1, .best_step = 2});
  EXPECT_THAT(listing(), ElementsAre("checkpoint-2", "checkpoint-30"));
  rotate_checkpoints(out_, {.save_total_limit = 1, .best_step = 30});
  EXPECT_THAT(listing(), ElementsAre("checkpoint-30"));
  rotate_checkpoints(out_, {.save_total_limit = 1});
  EXPECT_THAT(listing(), ElementsAre("checkpoint-30"));
}

TEST_F(Checkpoint, RotationLeavesTheRestAlone) {
  for (const int step : {1, 2, 3}) save(step);
  fs::create_directories(out_ / "checkpoint-0/mine");           // foreign
  fs::resize_file(out_ / "checkpoint-1/model.safetensors", 5);  // damaged: neither counted nor removed
  EXPECT_THAT(rotate_checkpoints(out_, {.save_total_limit = 0}).removed, IsEmpty());
  EXPECT_THAT(rotate_checkpoints(out_, {.save_total_limit = -1}).removed, IsEmpty());
  EXPECT_THAT(rotate_checkpoints(out_, {.save_total_limit = 2}).removed, IsEmpty());
  EXPECT_THAT(rotate_checkpoints(out_, {.save_total_limit = 1}).removed, ElementsAre(out_ / "checkpoint-2"));
  EXPECT_THAT(listing(), ElementsAre("checkpoint-0", "checkpoint-1", "checkpoint-3"));
}

// --- what dead runs leave ---

TEST_F(Checkpoint, StaleFoldersAreCleaned) {
  save(1);
  for (const char* name : {"checkpoint-2.tmp-12-0-abc", "checkpoint-1.gone-12-0-abc", "checkpoint-1.old-12-0-abc", "mine.tmp-1",
                           "checkpoint-x.tmp-1"}) {
    fs::create_directory(out_ / name);
    write_bytes(out_ / name / "file", "x");
  }
  write_bytes(out_ / "checkpoint-3.tmp-file", "a file, no folder");
  EXPECT_THAT(clean_stale_checkpoints(out_),
              ElementsAre("checkpoint-1.gone-12-0-abc", "checkpoint-1.old-12-0-abc", "checkpoint-2.tmp-12-0-abc"));
  EXPECT_THAT(listing(), ElementsAre("checkpoint-1", "checkpoint-3.tmp-file", "checkpoint-x.tmp-1", "mine.tmp-1"));
  EXPECT_TRUE(verify_checkpoint(out_ / "checkpoint-1").ok());
  EXPECT_THAT(clean_stale_checkpoints(folder_.path() / "absent"), IsEmpty());
}

TEST_F(Checkpoint, StaleFilesAreCleaned) {
  fs::create_directories(out_ / "model.safetensors.tmp-77-1");  // a folder
  for (const char* name : {"model.safetensors.tmp-123-0", "model-00001-of-00002.safetensors.tmp-9-12",
                           "trainer_state.json.tmp-123", "model.safetensors", "notes.tmp-1", "model.safetensors.tmp-mine"}) {
    write_bytes(out_ / name, "x");
  }
  EXPECT_THAT(clean_stale_files(out_), ElementsAre("model-00001-of-00002.safetensors.tmp-9-12", "model.safetensors.tmp-123-0",
                                                   "trainer_state.json.tmp-123"));
  EXPECT_THAT(listing(),
              ElementsAre("model.safetensors", "model.safetensors.tmp-77-1", "model.safetensors.tmp-mine", "notes.tmp-1"));
  EXPECT_THAT(clean_stale_files(folder_.path() / "absent"), IsEmpty());
}

TEST_F(Checkpoint, ACheckpointMovedAsideGetsItsNameBack) {
  save(1);
  fs::rename(out_ / "checkpoint-1", out_ / "checkpoint-1.old-12-0-abc");
  clean_stale_checkpoints(out_);
  EXPECT_THAT(listing(), ElementsAre("checkpoint-1"));
  EXPECT_TRUE(verify_checkpoint(out_ / "checkpoint-1").ok());
}

TEST_F(Checkpoint, ManySavesLeakNoDescriptors) {
  const auto open_files = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); };
  save(1);
  const auto before = open_files();
  for (int i = 0; i < 100; ++i) save(1, static_cast<float>(i));
  EXPECT_EQ(open_files(), before);
}

TEST_F(Checkpoint, AFileInTheWayIsNamed) {
  write_bytes(out_, "a file");
  EXPECT_THAT(error_of<EnvironmentError>([&] { save(1); }), HasSubstr(out_.string() + ": cannot be created as a folder"));
}

}  // namespace
}  // namespace oumi
