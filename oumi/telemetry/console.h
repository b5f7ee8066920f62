// The terminal, shared by log lines and the progress bar: a status line at the bottom, finished lines above it.
#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace oumi {

// Thread-safe. Each change is one write, so nothing flickers; failed writes are ignored (a closed terminal ends no run).
class Console {
 public:
  struct Style {
    bool interactive = false;  // a terminal that understands \r and "erase to end of line"
    bool color = false;
    bool unicode = false;
    int width = 0;  // columns; 0: ask the terminal each time, so that a resized window is respected
  };

  Console(int descriptor, Style style) : descriptor_(descriptor), style_(style) {}
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // stderr, with the style that the terminal and NO_COLOR, TERM, LC_ALL, LC_CTYPE, LANG ask for.
  static Console& standard_error();
  static Style detect_style(int descriptor);

  const Style& style() const noexcept { return style_; }
  int width() const;  // columns, at least 10; 80 when the terminal does not say

  // Prints `line` and a newline above the status line.
  void print_line(std::string_view line);

  // Replaces the status line; ignored when not interactive. `text` holds no newline and fits width() - 1 columns.
  void set_status(std::string text);
  void clear_status();

  // `text` in an SGR colour such as "32" or "1;36", or as it is where colours are off.
  std::string colored(std::string_view text, std::string_view sgr) const;

 private:
  void write(std::string_view bytes) noexcept;

  std::mutex mutex_;
  int descriptor_;
  Style style_;
  std::string status_;
};

// Columns that `text` (UTF-8 without control characters) takes, escape sequences not counted.
std::size_t display_width(std::string_view text);

}  // namespace oumi
