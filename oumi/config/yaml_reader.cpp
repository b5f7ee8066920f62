#include "oumi/config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/config/scalars.h"

namespace oumi {
namespace {

// A config of a million values is a mistake or an attack ("billion laughs": aliases of aliases).
constexpr std::size_t kMaxValues = 1'000'000;
constexpr std::size_t kMaxDepth = 200;

// Length in bytes of the UTF-8 character at `at`, 0 when it is malformed or no YAML character.
std::size_t yaml_character(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return byte == '\t' || byte == '\n' || byte == '\r' || (byte >= 0x20 && byte != 0x7f) ? 1 : 0;
  const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
  if (byte < 0xC2 || byte > 0xF4 || at + length > text.size()) return 0;
  unsigned code = byte & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[at + i]);
    if ((next & 0xC0) != 0x80) return 0;
    code = code << 6 | (next & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return overlong || surrogate || code > 0x10FFFF ? 0 : length;
}

void check_characters(const std::string& text, const std::string& origin) {
  int line = 1, column = 1;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = yaml_character(text, i);
    if (length == 0) {
      static constexpr char kHex[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(text[i]);
      throw UserError(
          origin,
          cat("expected UTF-8 text, got byte 0x", kHex[byte >> 4], kHex[byte & 15], " at line ", line, ", column ", column),
          "is this a YAML file? if so, save it as UTF-8");
    }
    if (text[i] == '\n') {
      ++line;
      column = 0;
    }
    i += length;
    ++column;
  }
}

// 1-based number of a line near `line` that is indented with a tab, or 0.
int tab_indented_line(const std::string& text, int line) {
  const std::vector<std::string> lines = split(text, '\n');
  for (int candidate : {line, line - 1, line + 1}) {
    if (candidate < 1 || candidate > static_cast<int>(lines.size())) continue;
    const std::string& content = lines[static_cast<std::size_t>(candidate - 1)];
    const std::size_t first = content.find_first_not_of(" \t");
    if (content.substr(0, first).find('\t') != std::string::npos) return candidate;
  }
  return 0;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string origin) : source_(std::make_shared<const std::string>(std::move(origin))) {}

  Value take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Value value;
    value.location = locate(mark);
    add(std::move(value), anchor, false);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside of the value that it names", "write the value out");
    const Value& value = found->second;
    count_ += count_values(value);
    check_count(mark);
    add(value, 0, value.kind == Value::Kind::kString);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& text) override {
    Value value;
    bool is_string = false;
    if (tag == "?" || tag.empty()) {
      value = resolve_plain_scalar(text);
      is_merge_key_ = text == "<<";
    } else if (tag == "!" || tag == "tag:yaml.org,2002:str") {
      value.kind = Value::Kind::kString;
      value.scalar = text;
    } else {
      value = tagged(mark, tag, text);
    }
    if (value.kind == Value::Kind::kString) {
      is_string = true;
      // "\${x}" is how a file that is also read with interpolation writes "${x}".
      auto& held = value.scalar.get_ref<std::string&>();
      for (std::size_t i = held.find("\\${"); i != std::string::npos; i = held.find("\\${", i)) held.erase(i, 1);
    }
    value.location = locate(mark);
    add(std::move(value), anchor, is_string);
    is_merge_key_ = false;
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, "tag:yaml.org,2002:seq", anchor, Value::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(mark, tag, "tag:yaml.org,2002:map", anchor, Value::Kind::kDict);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Value value;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    bool key_is_merge = false;
    Entry pending;                                            // key seen, value still to come
    std::unordered_map<std::string, std::size_t> index = {};  // key -> position in value.entries
    std::vector<Value> merges = {};
  };

  Location locate(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what, const std::string& hint) const {
    throw UserError(*source_, cat("not valid YAML at line ", mark.line + 1, ", column ", mark.column + 1, ": ", what), hint);
  }

  void check_count(const YAML::Mark& mark) const {
    if (count_ > kMaxValues)
      fail(mark, cat("expected at most ", kMaxValues, " values, got more"), "aliases of aliases multiply");
  }

  Value tagged(const YAML::Mark& mark, const std::string& tag, const std::string& text) const {
    const Value plain = resolve_plain_scalar(text);
    const auto is = [&](const char* name) { return tag == std::string("tag:yaml.org,2002:") + name; };
    if (is("int") && plain.kind == Value::Kind::kInt) return plain;
    if (is("bool") && plain.kind == Value::Kind::kBool) return plain;
    if (is("null")) return Value{};
    if (is("float")) {
      if (const auto number = python_float(text)) return value_from_json(*number);
      if (plain.kind == Value::Kind::kFloat) return plain;
    }
    fail(mark, "the tag " + tag + " does not fit '" + text + "'", "remove the tag");
  }

  void open(const YAML::Mark& mark, const std::string& tag, const std::string& expected, YAML::anchor_t anchor,
            Value::Kind kind) {
    if (tag != "?" && tag != "!" && !tag.empty() && tag != expected)
      fail(mark, "the tag " + tag + " is not known", "remove the tag");
    if (stack_.size() >= kMaxDepth) fail(mark, cat("expected at most ", kMaxDepth, " levels, got more"), "");
    if (!stack_.empty() && stack_.back().value.kind == Value::Kind::kDict && !stack_.back().has_key) {
      fail(mark, "a list or dict as a key", "keys are text");
    }
    Frame frame;
    frame.anchor = anchor;
    frame.value.kind = kind;
    frame.value.location = locate(mark);
    stack_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    if (!frame.merges.empty()) frame.value.entries = merged_entries(frame);
    add(std::move(frame.value), frame.anchor, false);
  }

  // PyYAML's order: merged entries first, the first dict of several winning, then the dict's own, which win over all.
  static std::vector<Entry> merged_entries(Frame& frame) {
    std::vector<Entry> out;
    std::unordered_map<std::string, std::size_t> position;
    const auto put = [&](Entry entry) {
      const auto [found, is_new] = position.emplace(entry.key, out.size());
      if (is_new) {
        out.push_back(std::move(entry));
      } else {
        out[found->second] = std::move(entry);
      }
    };
    for (auto merged = frame.merges.rbegin(); merged != frame.merges.rend(); ++merged) {
      for (Entry& entry : merged->entries) put(std::move(entry));
    }
    for (Entry& entry : frame.value.entries) put(std::move(entry));
    return out;
  }

  void add(Value value, YAML::anchor_t anchor, bool is_string) {
    const YAML::Mark mark = [&] {
      YAML::Mark made;
      made.line = value.location.line - 1;
      made.column = value.location.column - 1;
      return made;
    }();
    ++count_;
    check_count(mark);
    if (anchor != 0) anchors_[anchor] = value;
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& frame = stack_.back();
    if (frame.value.kind == Value::Kind::kList) {
      frame.value.items.push_back(std::move(value));
    } else if (!frame.has_key) {
      frame.has_key = true;
      frame.key_is_merge = is_merge_key_;
      frame.pending = {key_text(value, mark), is_string, value.location, {}};
      if (!frame.key_is_merge && frame.index.contains(frame.pending.key)) {
        const Entry& first = frame.value.entries[frame.index.at(frame.pending.key)];
        throw UserError(*source_,
                        cat("duplicate key '", frame.pending.key, "' at line ", mark.line + 1, ", column ", mark.column + 1,
                            "; it was set at line ", first.key_location.line),
                        "remove one of the two");
      }
    } else {
      frame.has_key = false;
      if (frame.key_is_merge) {
        merge(frame, std::move(value), mark);
      } else {
        frame.index.emplace(frame.pending.key, frame.value.entries.size());
        frame.pending.value = std::move(value);
        frame.value.entries.push_back(std::move(frame.pending));
      }
    }
  }

  void merge(Frame& frame, Value value, const YAML::Mark& mark) {
    if (value.kind == Value::Kind::kDict) {
      frame.merges.push_back(std::move(value));
      return;
    }
    const bool dicts =
        value.kind == Value::Kind::kList &&
        std::all_of(value.items.begin(), value.items.end(), [](const Value& item) { return item.kind == Value::Kind::kDict; });
    if (!dicts) fail(mark, "expected a dict or a list of dicts after <<, got " + describe_value(value), "");
    for (Value& item : value.items) frame.merges.push_back(std::move(item));
  }

  std::string key_text(const Value& value, const YAML::Mark& mark) const {
    switch (value.kind) {
      case Value::Kind::kString: return value.scalar.get<std::string>();
      case Value::Kind::kInt: return value.scalar.dump();
      case Value::Kind::kFloat: return python_repr(value.scalar.get<double>());
      case Value::Kind::kBool: return value.scalar.get<bool>() ? "True" : "False";
      case Value::Kind::kNull: return "None";
      default: fail(mark, "expected text as a key, got " + describe_value(value), "keys are text");
    }
  }

  std::shared_ptr<const std::string> source_;
  Value root_;
  std::vector<Frame> stack_;
  std::unordered_map<YAML::anchor_t, Value> anchors_;
  std::size_t count_ = 0;
  bool is_merge_key_ = false;
};

}  // namespace

Value parse_yaml(const std::string& text, const std::string& origin) {
  check_characters(text, origin);
  TreeBuilder builder(origin);
  try {
    // The scanner accepts a quote that is never closed when a line break ends the text, and swallows all after it; with a
    // comment there it complains. A last line without a break must stay so (it decides what a block scalar ends with), so
    // that text is looked at twice.
    const bool has_line_break = text.ends_with('\n');
    if (!has_line_break) {
      std::istringstream again(text + "\n#");
      TreeBuilder checked(origin);
      YAML::Parser(again).HandleNextDocument(checked);
    }
    std::istringstream stream(has_line_break ? text + "#" : text);
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return Value{};
    Value first = builder.take();
    TreeBuilder rest(origin);
    if (parser.HandleNextDocument(rest)) {
      throw UserError(origin, "expected one YAML document, got more", "remove the '---' lines between documents");
    }
    return first;
  } catch (const YAML::Exception& error) {
    const int line = error.mark.line + 1;
    const int tab = tab_indented_line(text, line);
    throw UserError(origin, cat("not valid YAML at line ", line, ", column ", error.mark.column + 1, ": ", error.msg),
                    tab > 0 ? cat("YAML is indented with spaces; line ", tab, " has a tab")
                            : "check indentation, quotes and brackets there");
  }
}

}  // namespace oumi
