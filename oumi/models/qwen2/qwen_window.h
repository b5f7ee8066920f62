// The sliding window of Qwen's configs: in force only with use_sliding_window.
#pragma once

#include "oumi/models/decoder/hf_config.h"

namespace oumi {

struct QwenWindow {
  std::int64_t size = 0;  // 0: none
  std::int64_t first_layer = 0;
};

inline QwenWindow read_qwen_window(const HfConfig& config) {
  QwenWindow window;
  const bool used = config.get<bool>("use_sliding_window", false);
  const auto size = config.nullable<std::int64_t>("sliding_window", 4096).value_or(0);
  window.size = used ? size : 0;
  window.first_layer = config.get<std::int64_t>("max_window_layers", 28);
  return window;
}

}  // namespace oumi
