#include "cli/new_command.h"

#include <cctype>
#include <filesystem>
#include <ostream>

#include "new_project_files.h"  // generated from examples/02_custom_model
#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi::cli {
namespace fs = std::filesystem;
namespace {

bool is_identifier(const std::string& name) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name.front())) != 0) return false;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_') return false;
  }
  return true;
}

std::string to_snake_case(const std::string& name) {
  std::string snake;
  for (const char c : name) {
    const bool upper = std::isupper(static_cast<unsigned char>(c)) != 0;
    if (upper && !snake.empty() && snake.back() != '_') snake += '_';
    snake += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return snake;
}

std::string to_pascal_case(const std::string& name) {
  std::string pascal;
  for (const std::string& part : split(to_snake_case(name), '_')) {
    if (part.empty()) continue;
    pascal += static_cast<char>(std::toupper(static_cast<unsigned char>(part.front())));
    pascal += part.substr(1);
  }
  return pascal;
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
  return text;
}

}  // namespace

int new_project(const std::string& name, std::ostream& out) {
  if (!is_identifier(name)) {
    throw UserError("new", "expected a name of letters, digits and _ that does not begin with a digit, got '" + name + "'",
                    "try: oumi-cpp new my_model");
  }
  const fs::path folder = name;
  if (fs::exists(folder)) throw UserError(folder.string(), "exists already", "choose another name, or remove it");
  make_directories(folder);
  const std::string snake = to_snake_case(name), pascal = to_pascal_case(name);
  for (const auto& [file, contents] : kNewProjectFiles) {
    const std::string target = replace_all(file, "custom_model", snake);
    write_file_atomically(folder / target, replace_all(replace_all(contents, "custom_model", snake), "CustomModel", pascal));
  }
  out << "wrote " << folder.string() << "/; next:\n"
      << "  cd " << folder.string() << "\n"
      << "  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -Doumi_DIR=" << OUMI_PACKAGE_DIR << "\n"
      << "  cmake --build build\n"
      << "  oumi-cpp train -c config.yaml --plugin build/lib" << snake << ".so --overwrite\n";
  return 0;
}

}  // namespace oumi::cli
