#include "cli/download_progress.h"

#include <unistd.h>

#include <chrono>
#include <iostream>

#include "oumi/base/strings.h"
#include "oumi/hub/hub.h"

namespace oumi::cli {

void show_downloads() {
  constexpr std::uint64_t kLarge = 10'000'000;
  const bool terminal = ::isatty(STDERR_FILENO) != 0;
  set_hub_listener([terminal, last = std::chrono::steady_clock::time_point()](const HubEvent& event) mutable {
    if (!event.notice.empty()) {
      std::cerr << "note: " << event.notice << '\n';
      return;
    }
    const bool done = event.done >= event.total;
    const auto now = std::chrono::steady_clock::now();
    if (terminal && (done || now - last > std::chrono::milliseconds(200))) {
      last = now;
      std::cerr << "\rdownloading " << event.file << ": " << format_bytes(event.done) << " of " << format_bytes(event.total)
                << "  " << (done ? "\n" : "") << std::flush;
    } else if (!terminal && done && event.total >= kLarge) {
      std::cerr << "downloaded " << event.file << ", " << format_bytes(event.total) << '\n';
    }
  });
}

}  // namespace oumi::cli
