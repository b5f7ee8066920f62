// What the tests of text datasets share.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include "oumi/data/build_dataset.h"
#include "oumi/data/registry.h"
#include "oumi/data/testing/support.h"
#include "oumi/data/text/token_dataset.h"
#include "oumi/text/test_support.h"

namespace oumi::testing {

// tests/golden/textdata.json, written by tests/golden/textdata.py.
inline const Json& text_golden() {
  static const Json json = read_json_file(golden_folder() / "textdata.json");
  return json;
}

// The golden tokenizer; `chat_template` is a key of text_golden()["templates"].
inline TextContext text_context(const std::string& chat_template = "chat_ml") {
  TokenizerOptions options;
  options.chat_template = text_golden()["templates"][chat_template].get<std::string>();
  TextContext context;
  context.tokenizer = Tokenizer::load(golden_folder() / "textdata", options);
  return context;
}

// Files and a cache of their own for each test.
class TextDataTest : public ::testing::Test {
 protected:
  TextDataTest() { setenv("OUMI_CACHE", (folder.path() / "cache").c_str(), 1); }
  void SetUp() override {
    OUMI_NEEDS_BRIDGE();
    context = text_context();
  }
  ~TextDataTest() override { unsetenv("OUMI_CACHE"); }

  std::filesystem::path file(const std::string& name, const std::string& contents) {
    write(folder.path() / name, contents);
    return folder.path() / name;
  }
  DatasetPtr make(const std::string& name, const std::filesystem::path& path, Json kwargs = Json::object(),
                  bool stream = false) {
    DatasetRequest request;
    request.name = name;
    if (!path.empty()) request.path = path;
    request.kwargs = Kwargs(std::move(kwargs), "data.train.datasets[0].dataset_kwargs");
    request.key = "data.train.datasets[0]";
    request.text = context;
    request.text.notice = [this](const std::string& text) { notices += text + "\n"; };
    request.stream = stream;
    return make_dataset(request);
  }
  static TokenIds ids(Dataset& dataset, std::int64_t index, const char* field = "input_ids") {
    return token_field(dataset.get(index), field, "test");
  }
  static std::string jsonl(const Json& rows) {
    std::string text;
    for (const Json& row : rows) text += row.dump() + "\n";
    return text;
  }

  TemporaryDirectory folder;
  TextContext context;
  std::string notices;
};

}  // namespace oumi::testing
