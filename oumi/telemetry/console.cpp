#include "oumi/telemetry/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "oumi/base/strings.h"

namespace oumi {

namespace {

constexpr std::string_view kEraseToEnd = "\x1b[K";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool locale_is_utf8() {
  // The first of these that is set decides, as in setlocale(3).
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string value = to_lower(environment(name));
    if (value.empty()) continue;
    return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace

Console::~Console() { clear_status(); }

Console& Console::standard_error() {
  static Console console(STDERR_FILENO, detect_style(STDERR_FILENO));
  return console;
}

Console::Style Console::detect_style(int descriptor) {
  Style style;
  const std::string term = environment("TERM");
  style.interactive = ::isatty(descriptor) == 1 && !term.empty() && term != "dumb";
  style.color = style.interactive && environment("NO_COLOR").empty();
  style.unicode = style.interactive && locale_is_utf8();
  return style;
}

int Console::width() const {
  int columns = style_.width;
  if (columns <= 0) {
    winsize size{};
    columns = ::ioctl(descriptor_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }
  return std::max(columns, 10);
}

void Console::print_line(std::string_view line) {
  const std::lock_guard lock(mutex_);
  std::string bytes;
  if (!status_.empty()) bytes += cat("\r", kEraseToEnd);
  bytes += line;
  bytes += '\n';
  bytes += status_;
  write(bytes);
}

void Console::set_status(std::string text) {
  const std::lock_guard lock(mutex_);
  if (!style_.interactive) return;
  // Overwriting first and erasing the rest after shows no blank moment.
  write(cat("\r", text, kEraseToEnd));
  status_ = std::move(text);
}

void Console::clear_status() {
  const std::lock_guard lock(mutex_);
  if (status_.empty()) return;
  write(cat("\r", kEraseToEnd));
  status_.clear();
}

std::string Console::colored(std::string_view text, std::string_view sgr) const {
  if (!style_.color) return std::string(text);
  return cat("\x1b[", sgr, "m", text, "\x1b[0m");
}

void Console::write(std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::size_t display_width(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b' && i + 1 < text.size() && text[i + 1] == '[') {
      while (i < text.size() && !(text[i] >= '@' && text[i] <= '~' && text[i] != '[')) ++i;
      continue;
    }
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ++columns;
  }
  return columns;
}

}  // namespace oumi
