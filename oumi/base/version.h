#pragma once

namespace oumi {

// Held equal to the version in CMakeLists.txt by a test.
inline constexpr const char* kVersion = "0.1.0";

}  // namespace oumi
