#pragma once

#include <cstdint>

namespace oumi::cli {

// A TCP port that nothing listens at now. Throws EnvironmentError.
std::int64_t free_port();

}  // namespace oumi::cli
