// The run's log: output_dir/logs/rank_0000.log for each rank and, on rank 0, the terminal. No type of the logging library
// shows here: files that include torch see another copy of its formatter (docs/architecture.md).
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace oumi {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kCritical, kOff };

// Python's level names in any case ("debug", "info", "warning", "error", "critical"), "passive" (Hugging Face: keep the
// default, here warning) and "detail" (as debug). Throws UserError naming `key`.
LogLevel parse_log_level(const std::string& text, const std::string& key = "training.log_level");

struct LoggingOptions {
  std::optional<std::filesystem::path> directory = {};  // usually output_dir/logs; nullopt: no file
  std::int64_t rank = 0;
  LogLevel level = LogLevel::kInfo;
  bool console = true;  // callers give it to rank 0 alone
};

// Opens the log, replacing what an earlier call set up. Throws EnvironmentError when the file cannot be created. Before the
// first call messages of warning and above go to stderr.
void init_logging(const LoggingOptions& options);

// Flushes and closes; logging after it behaves as before init_logging.
void shutdown_logging() noexcept;

// Thread-safe; never throw: a full disk or closed terminal must not end a run. Control characters other than tab and newline
// are escaped on the terminal.
void log_message(LogLevel level, const std::string& message) noexcept;
inline void log_debug(const std::string& message) noexcept { log_message(LogLevel::kDebug, message); }
inline void log_info(const std::string& message) noexcept { log_message(LogLevel::kInfo, message); }
inline void log_warning(const std::string& message) noexcept { log_message(LogLevel::kWarning, message); }
inline void log_error(const std::string& message) noexcept { log_message(LogLevel::kError, message); }

// To the log file alone: for what the terminal shows in another form (metrics lines).
void log_to_file(LogLevel level, const std::string& message) noexcept;

// Whether a message of this level would be written anywhere: spares callers from building costly texts.
bool log_enabled(LogLevel level) noexcept;

void flush_logging() noexcept;

}  // namespace oumi
