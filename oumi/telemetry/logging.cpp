#include "oumi/telemetry/logging.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/base/text_bytes.h"
#include "oumi/telemetry/console.h"

namespace oumi {

namespace {

struct Log {
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> file;
  std::atomic<LogLevel> level{LogLevel::kWarning};
  std::atomic<bool> console{true};
  std::atomic<bool> has_file{false};
};

Log& log() {
  static Log* const instance = new Log;  // never destroyed: threads may log until the very end
  return *instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kCritical: return spdlog::level::critical;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::off;
}

void write_to_console(LogLevel level, const std::string& message) {
  Console& console = Console::standard_error();
  const std::string text = printable(message, /*single_line=*/false);
  switch (level) {
    case LogLevel::kDebug: console.print_line(cat(console.colored("debug:", "2"), " ", text)); return;
    case LogLevel::kWarning: console.print_line(cat(console.colored("warning:", "33"), " ", text)); return;
    case LogLevel::kError:
    case LogLevel::kCritical: console.print_line(cat(console.colored("error:", "31"), " ", text)); return;
    default: console.print_line(text);
  }
}

void write_to_file(LogLevel level, const std::string& message) {
  const std::lock_guard lock(log().mutex);
  if (log().file != nullptr) log().file->log(to_spdlog(level), spdlog::string_view_t(message));
}

}  // namespace

LogLevel parse_log_level(const std::string& text, const std::string& key) {
  const std::string lower = to_lower(trim(text));
  if (lower == "debug" || lower == "detail") return LogLevel::kDebug;
  if (lower == "info") return LogLevel::kInfo;
  if (lower == "warning" || lower == "warn" || lower == "passive") return LogLevel::kWarning;
  if (lower == "error") return LogLevel::kError;
  if (lower == "critical" || lower == "fatal") return LogLevel::kCritical;
  throw UserError(key, cat("expected a log level, got '", text, "'"),
                  suggestion(text, {"debug", "detail", "info", "warning", "error", "critical", "passive"}));
}

void init_logging(const LoggingOptions& options) {
  std::shared_ptr<spdlog::logger> logger;
  if (options.directory.has_value()) {
    make_directories(*options.directory);
    std::string digits = std::to_string(options.rank);
    if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
    const std::filesystem::path path = *options.directory / cat("rank_", digits, ".log");
    try {
      // Appends: the log of a resumed run goes on in the same file.
      logger =
          std::make_shared<spdlog::logger>("oumi", std::make_shared<spdlog::sinks::basic_file_sink_st>(path.string(), false));
    } catch (const spdlog::spdlog_ex& error) {
      throw EnvironmentError(path.string(), cat("cannot be opened for writing: ", error.what()),
                             "check the permissions and the space left, or choose another output_dir");
    }
    logger->set_pattern(cat("%Y-%m-%d %H:%M:%S.%e [rank ", options.rank, "] [%l] %v"));
    logger->set_level(to_spdlog(options.level));
    logger->flush_on(spdlog::level::debug);                // kill -9 loses no line
    logger->set_error_handler([](const std::string&) {});  // a full disk ends no run, and stderr is the console's
  }
  const std::lock_guard lock(log().mutex);
  log().file = std::move(logger);
  log().has_file = log().file != nullptr;
  log().level = options.level;
  log().console = options.console;
}

void shutdown_logging() noexcept {
  const std::lock_guard lock(log().mutex);
  log().file.reset();
  log().has_file = false;
  log().level = LogLevel::kWarning;
  log().console = true;
}

bool log_enabled(LogLevel level) noexcept {
  return level != LogLevel::kOff && level >= log().level && (log().console || log().has_file);
}

void log_message(LogLevel level, const std::string& message) noexcept {
  if (!log_enabled(level)) return;
  try {
    write_to_file(level, message);
    if (log().console) write_to_console(level, message);
  } catch (...) {  // out of memory for the message
  }
}

void log_to_file(LogLevel level, const std::string& message) noexcept {
  if (!log_enabled(level)) return;
  try {
    write_to_file(level, message);
  } catch (...) {
  }
}

void flush_logging() noexcept {
  try {
    const std::lock_guard lock(log().mutex);
    if (log().file != nullptr) log().file->flush();
  } catch (...) {
  }
}

}  // namespace oumi
