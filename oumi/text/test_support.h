// Shared by the tests of text. They need liboumi_bridge.so, which is built where there is a Rust compiler.
#pragma once

#include <memory>
#include <string>

#include "oumi/base/files.h"
#include "oumi/config/test_support.h"
#include "oumi/text/bridge.h"
#include "oumi/text/tokenizer.h"

namespace oumi {

#define OUMI_NEEDS_BRIDGE() \
  if (!text::bridge_available()) GTEST_SKIP() << "built without Rust, so without tokenizers and chat templates"

inline std::filesystem::path golden_tokenizer(const std::string& kind) { return source_dir() / "tests/golden/text" / kind; }

inline const Json& golden_text() {
  static const Json kGolden = read_json_file(source_dir() / "tests/golden/text.json");
  return kGolden;
}

}  // namespace oumi
