#include "oumi/hub/hub.h"

#include <gmock/gmock.h>

#include <chrono>
#include <fstream>

#include "oumi/base/error.h"
#include "oumi/hub/cache.h"
#include "oumi/hub/digest.h"
#include "oumi/hub/settings.h"
#include "oumi/hub/test_server.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kMain(40, 'a'), kDev(40, 'b');

template <class E>
std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const E& error) {
    return describe(error);
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

class HubTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new LoopbackHub(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE",
                             "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT",
                             "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}) {
      ::unsetenv(name);
    }
    set("HF_HOME", home_.path().string());
    set("HF_ENDPOINT", server_->endpoint());
    server_->set("cut=0&ignore_range=0&hang=0&status=0");
    server_->log();
  }
  void TearDown() override { set_hub_listener({}); }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  fs::path root(const std::string& folder = "models--org--tiny") const { return home_.path() / "hub" / folder; }

  TemporaryDirectory home_;
  static LoopbackHub* server_;
};

LoopbackHub* HubTest::server_ = nullptr;

TEST_F(HubTest, DownloadsIntoTheSharedCacheLayout) {
  const fs::path folder = resolve_model("org/tiny");
  EXPECT_EQ(folder, root() / "snapshots" / kMain);
  EXPECT_EQ(read_text_file(root() / "refs" / "main"), kMain);
  EXPECT_EQ(read_text_file(folder / "config.json"), R"({"model_type": "llama"})");
  EXPECT_FALSE(fs::exists(folder / "README.md"));
  EXPECT_FALSE(fs::exists(folder / "pytorch_model.bin"));  // there are safetensors
  const fs::path blob = fs::read_symlink(folder / "model.safetensors");
  EXPECT_EQ(blob, fs::path("../../blobs") / sha256_file(folder / "model.safetensors"));
  EXPECT_EQ(fs::file_size(folder / "model.safetensors"), 300000u);
  EXPECT_EQ(fs::read_symlink(folder / "config.json"), fs::path("../../blobs") / git_blob_sha1_file(folder / "config.json"));
  for (const auto& entry : fs::recursive_directory_iterator(root()))
    EXPECT_THAT(entry.path().string(), testing::Not(HasSubstr("incomplete")));

  // The second time asks once and downloads nothing.
  server_->log();
  EXPECT_EQ(resolve_model("org/tiny"), folder);
  EXPECT_EQ(server_->log().size(), 1u);
  // A commit is immutable: no question at all.
  EXPECT_EQ(resolve_model("org/tiny", kMain), folder);
  EXPECT_EQ(server_->log().size(), 0u);
}

TEST_F(HubTest, TakesUpACutDownload) {
  server_->set("cut=3");
  const fs::path folder = resolve_model("org/tiny");
  EXPECT_EQ(fs::read_symlink(folder / "model.safetensors").filename(), sha256_file(folder / "model.safetensors"));
  std::vector<std::string> ranges;
  for (const Json& entry : server_->log()) {
    if (entry["role"] == "storage") ranges.push_back(entry["range"]);
  }
  EXPECT_THAT(ranges, testing::ElementsAre("", "bytes=150000-", "bytes=225000-", "bytes=262500-"));
}

TEST_F(HubTest, GoesOnFromAnEarlierProcessAndSurvivesBadRemains) {
  const fs::path good = resolve_model("org/tiny");
  const std::string contents = read_text_file(good / "model.safetensors");
  const std::string etag = fs::read_symlink(good / "model.safetensors").filename();
  for (const std::string& kept : {contents.substr(0, 100000), std::string(100000, '?'), contents + "too long"}) {
    fs::remove_all(root());
    fs::create_directories(root() / "blobs");
    std::ofstream(root() / "blobs" / (etag + ".incomplete"), std::ios::binary) << kept;
    EXPECT_EQ(read_text_file(resolve_model("org/tiny") / "model.safetensors"), contents);
    EXPECT_FALSE(fs::exists(root() / "blobs" / (etag + ".incomplete")));
  }
  // A storage that knows no ranges sends the whole file again.
  fs::remove_all(root());
  server_->set("cut=1&ignore_range=1");
  EXPECT_EQ(read_text_file(resolve_model("org/tiny") / "model.safetensors"), contents);
}

TEST_F(HubTest, RefusesDamagedFiles) {
  const std::string error = error_of<EnvironmentError>([] { resolve_model("org/damaged"); });
  EXPECT_THAT(error, HasSubstr("model.safetensors: expected SHA-256 "));
  EXPECT_THAT(error, HasSubstr("hint: "));
  EXPECT_THAT(error_of<EnvironmentError>([] { resolve_model("org/damaged-config"); }),
              HasSubstr("config.json: expected git SHA-1 "));
  for (const char* folder : {"models--org--damaged", "models--org--damaged-config"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root(folder))) {
      EXPECT_THAT(entry.path().filename().string(), testing::Not(HasSubstr("incomplete")));
      EXPECT_NE(entry.path().filename(), folder == std::string("models--org--damaged") ? "model.safetensors" : "config.json");
    }
  }
}

TEST_F(HubTest, SendsTheTokenToTheEndpointAlone) {
  set("HF_TOKEN", "secret");
  resolve_model("org/gated");
  int endpoint = 0, storage = 0;
  for (const Json& entry : server_->log()) {
    if (entry["role"] == "endpoint") {
      ++endpoint;
      EXPECT_EQ(entry["authorization"], "Bearer secret") << entry;
    } else {
      ++storage;
      EXPECT_EQ(entry["authorization"], "") << entry;
    }
  }
  EXPECT_GE(endpoint, 3);
  EXPECT_EQ(storage, 1);
}

TEST_F(HubTest, SaysWhatToDoAboutGates) {
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/gated"); }),
              testing::AllOf(HasSubstr("'org/gated' is gated or private"), HasSubstr("set HF_TOKEN")));
  std::ofstream(home_.path() / "token") << "wrong\n";
  const std::string error = error_of<UserError>([] { resolve_model("org/gated"); });
  EXPECT_THAT(error, testing::AllOf(HasSubstr("HTTP 403"), HasSubstr("the account of HF_TOKEN needs access"),
                                    testing::Not(HasSubstr("wrong"))));
}

TEST_F(HubTest, KnowsRevisionsAndNewNames) {
  EXPECT_EQ(resolve_model("org/tiny", "dev/two"), root() / "snapshots" / kDev);
  EXPECT_EQ(read_text_file(root() / "refs" / "dev" / "two"), kDev);
  EXPECT_EQ(resolve_model("org/tiny", kDev), root() / "snapshots" / kDev);
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/tiny", "nothing"); }),
              HasSubstr("[model.model_revision] 'org/tiny' has no revision 'nothing'"));
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/tiny", "../x"); }), HasSubstr("expected a branch, tag or commit"));
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/nobody"); }),
              HasSubstr("[model.model_name] 'org/nobody' is neither a local folder nor a model"));
  EXPECT_TRUE(fs::exists(resolve_model("org/old") / "model.safetensors"));  // renamed: redirected
  EXPECT_TRUE(fs::exists(resolve_model("gpt2") / "pytorch_model.bin"));     // no organisation
  EXPECT_TRUE(fs::exists(root("models--gpt2")));
}

TEST_F(HubTest, FetchesOnlyWhatIsNeeded) {
  const fs::path folder = resolve_model("org/tiny", "", {.files = HubFiles::kConfig});
  EXPECT_TRUE(fs::exists(folder / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  EXPECT_TRUE(fs::exists(resolve_model("org/sharded") / "model-00002-of-00002.safetensors"));
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/missing-shard"); }),
              HasSubstr("names a file that is missing: model-00001-of-00002.safetensors"));
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/no-weights"); }), HasSubstr("holds no weights"));
  EXPECT_NO_THROW(resolve_model("org/no-weights", "", {.files = HubFiles::kTokenizer}));
}

TEST_F(HubTest, WorksOffline) {
  set("HF_HUB_OFFLINE", "1");
  EXPECT_THAT(error_of<EnvironmentError>([] { resolve_model("org/tiny"); }),
              testing::AllOf(HasSubstr("is not in the cache"), HasSubstr("HF_HUB_OFFLINE")));
  set("HF_HUB_OFFLINE", "0");
  const fs::path folder = resolve_model("org/tiny", "", {.files = HubFiles::kConfig});
  set("HF_HUB_OFFLINE", "ON");
  server_->log();
  EXPECT_EQ(resolve_model("org/tiny", "", {.files = HubFiles::kConfig}), folder);
  EXPECT_THAT(error_of<EnvironmentError>([] { resolve_model("org/tiny"); }),
              HasSubstr("is not in the cache"));  // no weights there
  EXPECT_EQ(server_->log().size(), 0u);
}

TEST_F(HubTest, FailsSoonWithoutANetwork) {
  const fs::path folder = resolve_model("org/tiny");
  set("HF_ENDPOINT", "http://127.0.0.1:9");  // refuses connections
  const auto started = std::chrono::steady_clock::now();
  EXPECT_THAT(
      error_of<EnvironmentError>([] { resolve_model("org/other"); }),
      testing::AllOf(
          HasSubstr("[model.model_name] 'org/other' is no local folder and cannot be downloaded from http://127.0.0.1:9"),
          HasSubstr("hint: check the network")));
  // What the cache has is used, with a word about it.
  std::string notice;
  set_hub_listener([&](const HubEvent& event) { notice += event.notice; });
  EXPECT_EQ(resolve_model("org/tiny"), folder);
  EXPECT_THAT(notice, HasSubstr("using what the cache has of org/tiny"));
  // A storage that answers nothing.
  set("HF_ENDPOINT", server_->endpoint());
  set("HF_HUB_DOWNLOAD_TIMEOUT", "1");
  server_->set("status=404");
  EXPECT_THAT(error_of<UserError>([] { resolve_model("org/sharded"); }), HasSubstr("got HTTP status 404"));
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(5));
}

TEST_F(HubTest, RefusesWhatIsNoName) {
  EXPECT_EQ(resolve_model(home_.path().string()), home_.path());
  for (const char* name : {"./missing", "/missing/folder", "a/b/c", "org/..", "org/na me", "", "org/", "-x/y", "a--b/c"}) {
    EXPECT_THAT(error_of<UserError>([&] { resolve_model(name); }), HasSubstr("there is no folder")) << name;
  }
  EXPECT_EQ(server_->log().size(), 0u);
  EXPECT_THAT(error_of<UserError>([] { resolve_model("a/b/c", "", {.key = "model.tokenizer_name"}); }),
              HasSubstr("[model.tokenizer_name]"));
}

TEST_F(HubTest, ReadsTheEnvironment) {
  set("HF_HUB_CACHE", "/somewhere");
  set("HF_TOKEN", " padded \n");
  set("HF_ENDPOINT", "https://example.org/hub//");
  HubSettings settings = hub_settings_from_environment();
  EXPECT_EQ(settings.cache, "/somewhere");
  EXPECT_EQ(settings.token, "padded");
  EXPECT_EQ(settings.endpoint, "https://example.org/hub");
  set("HF_TOKEN", "two\r\nlines");
  EXPECT_THAT(error_of<UserError>([] { hub_settings_from_environment(); }),
              testing::AllOf(HasSubstr("[HF_TOKEN]"), testing::Not(HasSubstr("lines"))));
  set("HF_TOKEN", "x");
  set("HF_ENDPOINT", "example.org");
  EXPECT_THAT(error_of<UserError>([] { hub_settings_from_environment(); }),
              HasSubstr("[HF_ENDPOINT] expected an http or https address"));
  set("HF_ENDPOINT", server_->endpoint());
  set("HF_HUB_ETAG_TIMEOUT", "soon");
  EXPECT_THAT(error_of<UserError>([] { hub_settings_from_environment(); }),
              HasSubstr("[HF_HUB_ETAG_TIMEOUT] expected seconds"));
}

TEST_F(HubTest, ListensToProgress) {
  std::uint64_t last = 0, total = 0;
  set_hub_listener([&](const HubEvent& event) {
    if (event.file != "model.safetensors") return;
    EXPECT_GE(event.done, last);
    last = event.done;
    total = event.total;
  });
  resolve_model("org/tiny");
  EXPECT_EQ(last, 300000u);
  EXPECT_EQ(total, 300000u);
}

TEST(UrlTest, ComparesOrigins) {
  EXPECT_EQ(url_origin("https://Host/x?y"), url_origin("https://host:443/z"));
  EXPECT_NE(url_origin("https://host/x"), url_origin("http://host/x"));
  EXPECT_NE(url_origin("http://host:1/x"), url_origin("http://host:2/x"));
  EXPECT_NE(url_origin("https://host"), url_origin("https://host@other"));
  EXPECT_NE(url_origin("https://huggingface.co"), url_origin("https://huggingface.co.example"));
  EXPECT_EQ(url_encode("refs/pr/1"), "refs%2Fpr%2F1");
  EXPECT_EQ(url_encode("a b/ü", "/"), "a%20b/%C3%BC");
}

}  // namespace
}  // namespace oumi
