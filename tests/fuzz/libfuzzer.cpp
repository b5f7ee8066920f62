// One fuzzer a target, for the `fuzz` preset (clang): build/fuzz/tests/fuzz/fuzz_NAME. OUMI_FUZZ_TARGET is its name.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const oumi::fuzz::Target& target = *oumi::fuzz::find_target(OUMI_FUZZ_TARGET);
  const std::string failure = oumi::fuzz::run(target, {reinterpret_cast<const char*>(data), size});
  if (!failure.empty()) {
    std::fprintf(stderr, "%s: %s\n", target.name, failure.c_str());
    std::abort();
  }
  return 0;
}
