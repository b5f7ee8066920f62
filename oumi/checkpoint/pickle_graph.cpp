#include "oumi/checkpoint/pickle_graph.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

constexpr const char* kOrderedDict = "collections.OrderedDict";

class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, const std::string& origin, const std::function<bool(const std::string&)>& is_allowed)
      : bytes_(bytes), origin_(origin), is_allowed_(is_allowed) {}

  PickleGraph run() {
    while (!step()) {
    }
    return std::move(graph_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw UserError(origin_, "pickle, " + cat("byte ", at_, ": ", message),
                    "the file is damaged, or is no state of tensors and plain values");
  }

  // --- bytes ---
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) fail(cat("expected ", count, " more bytes, got ", bytes_.size() - position_));
    const std::string_view piece = bytes_.substr(position_, count);
    position_ += count;
    return piece;
  }

  template <class T>
  std::uint64_t take_unsigned() {
    const std::string_view piece = take(sizeof(T));
    T value;
    std::memcpy(&value, piece.data(), sizeof value);  // little-endian, as every machine that we build for
    return value;
  }

  std::string take_line() {
    const auto end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) fail("a name has no end");
    const std::string line(bytes_.substr(position_, end - position_));
    position_ = end + 1;
    return line;
  }

  // --- stack ---
  PickleRef add(PickleKind kind) {
    if (graph_.nodes.size() >= kNoPickleRef - 1) fail("too many objects");
    graph_.nodes.emplace_back().kind = kind;
    return static_cast<PickleRef>(graph_.nodes.size() - 1);
  }
  PickleNode& push(PickleKind kind) {
    stack_.push_back(add(kind));
    return graph_.nodes.back();
  }
  PickleRef pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("an operation finds nothing to work on");
    const PickleRef ref = stack_.back();
    stack_.pop_back();
    return ref;
  }
  PickleRef top() {
    const PickleRef ref = pop();
    stack_.push_back(ref);
    return ref;
  }
  std::vector<PickleRef> pop_mark() {
    if (marks_.empty()) fail("an operation finds no mark");
    const std::size_t begin = marks_.back();
    marks_.pop_back();
    std::vector<PickleRef> items(stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
    stack_.resize(begin);
    return items;
  }

  void push_text(PickleKind kind, std::string_view text) { push(kind).text = std::string(text); }
  void push_int(std::int64_t value) { push(PickleKind::kInt).integer = value; }

  void push_long(std::string_view digits) {  // little-endian two's complement
    if (digits.size() > 8) fail(cat("an integer of ", digits.size(), " bytes: expected at most 8"));
    std::uint64_t value = !digits.empty() && (static_cast<unsigned char>(digits.back()) & 0x80) ? ~std::uint64_t{0} : 0;
    for (std::size_t i = digits.size(); i-- > 0;) value = (value << 8) | static_cast<unsigned char>(digits[i]);
    push_int(static_cast<std::int64_t>(value));
  }

  void push_global(const std::string& name) {
    if (!is_allowed_(name)) {
      throw UserError(origin_,
                      "refused: the file wants to load '" + name.substr(0, 200) + "', expected tensors and plain values only",
                      "save a state dict of tensors in Python, or convert it to safetensors there");
    }
    push(PickleKind::kGlobal).text = name;
  }

  void push_tuple(std::vector<PickleRef> items) { push(PickleKind::kTuple).items = std::move(items); }
  void push_tuple_of(std::size_t count) {
    std::vector<PickleRef> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }

  void append(const std::vector<PickleRef>& items) {
    PickleNode& list = graph_.nodes[top()];
    if (list.kind != PickleKind::kList) fail("append to what is no list");
    list.items.insert(list.items.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<PickleRef>& items) {
    PickleNode& dict = graph_.nodes[top()];
    if (dict.kind != PickleKind::kDict) fail("items set in what is no dict");
    if (items.size() % 2 != 0) fail("a key without a value");
    dict.items.insert(dict.items.end(), items.begin(), items.end());
  }

  void call() {
    const PickleRef arguments = pop();
    const PickleRef function = pop();
    if (graph_[function].kind != PickleKind::kGlobal || graph_[arguments].kind != PickleKind::kTuple)
      fail("a call of what is no function");
    const std::string name = graph_[function].text;
    const std::vector<PickleRef> items = graph_[arguments].items;
    if (name != kOrderedDict) {
      PickleNode& result = push(PickleKind::kCall);
      result.text = name;
      result.items = items;
      return;
    }
    PickleNode& dict = push(PickleKind::kDict);
    if (items.empty()) return;
    for (const PickleRef pair : graph_[items[0]].items) {
      if (graph_[pair].items.size() != 2) fail("an OrderedDict of what are no pairs");
      dict.items.insert(dict.items.end(), graph_[pair].items.begin(), graph_[pair].items.end());
    }
  }

  void remember(std::uint64_t key) { memo_[key] = top(); }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("a reference to what was not stored");
    stack_.push_back(found->second);
  }

  // One operation; true at the end. Names: Python's pickletools.
  bool step() {
    at_ = position_;
    const auto op = static_cast<unsigned char>(take(1)[0]);
    switch (op) {
      case 0x80: {  // PROTO
        const auto protocol = take_unsigned<std::uint8_t>();
        if (protocol < 2 || protocol > 5) fail(cat("expected protocol 2 to 5, got ", protocol));
        break;
      }
      case 0x95: take(8); break;  // FRAME
      case '.':                   // STOP
        graph_.root = pop();
        return true;
      case '(': marks_.push_back(stack_.size()); break;
      case '0':
        if (!marks_.empty() && marks_.back() == stack_.size())
          marks_.pop_back();
        else
          pop();
        break;
      case '1': pop_mark(); break;
      case '2': stack_.push_back(top()); break;
      case 'N': push(PickleKind::kNone); break;
      case 0x88: push(PickleKind::kBool).integer = 1; break;
      case 0x89: push(PickleKind::kBool).integer = 0; break;
      case 'J': push_int(static_cast<std::int32_t>(take_unsigned<std::uint32_t>())); break;
      case 'K': push_int(static_cast<std::int64_t>(take_unsigned<std::uint8_t>())); break;
      case 'M': push_int(static_cast<std::int64_t>(take_unsigned<std::uint16_t>())); break;
      case 0x8a: push_long(take(take_unsigned<std::uint8_t>())); break;
      case 0x8b: push_long(take(take_unsigned<std::uint32_t>())); break;
      case 'G': {  // big-endian
        std::uint64_t bits = 0;
        for (const char c : take(8)) bits = (bits << 8) | static_cast<unsigned char>(c);
        push(PickleKind::kFloat).number = std::bit_cast<double>(bits);
        break;
      }
      case 'X': push_text(PickleKind::kString, take(take_unsigned<std::uint32_t>())); break;
      case 0x8c: push_text(PickleKind::kString, take(take_unsigned<std::uint8_t>())); break;
      case 0x8d: push_text(PickleKind::kString, take(take_unsigned<std::uint64_t>())); break;
      case 'T': push_text(PickleKind::kString, take(take_unsigned<std::uint32_t>())); break;
      case 'U': push_text(PickleKind::kString, take(take_unsigned<std::uint8_t>())); break;
      case 'B': push_text(PickleKind::kBytes, take(take_unsigned<std::uint32_t>())); break;
      case 'C': push_text(PickleKind::kBytes, take(take_unsigned<std::uint8_t>())); break;
      case 0x8e: push_text(PickleKind::kBytes, take(take_unsigned<std::uint64_t>())); break;
      case ']': push(PickleKind::kList); break;
      case 'a': append({pop()}); break;
      case 'e': append(pop_mark()); break;
      case 'l': {
        auto items = pop_mark();
        push(PickleKind::kList).items = std::move(items);
        break;
      }
      case ')': push(PickleKind::kTuple); break;
      case 't': push_tuple(pop_mark()); break;
      case 0x85: push_tuple_of(1); break;
      case 0x86: push_tuple_of(2); break;
      case 0x87: push_tuple_of(3); break;
      case '}': push(PickleKind::kDict); break;
      case 'd': {
        const auto items = pop_mark();
        push(PickleKind::kDict);
        set_items(items);
        break;
      }
      case 's': {
        const PickleRef value = pop();
        const PickleRef key = pop();
        set_items({key, value});
        break;
      }
      case 'u': set_items(pop_mark()); break;
      case 'c': {
        const std::string module = take_line();
        push_global(module + "." + take_line());
        break;
      }
      case 0x93: {  // STACK_GLOBAL
        const PickleRef name = pop();
        const PickleRef module = pop();
        if (graph_[name].kind != PickleKind::kString || graph_[module].kind != PickleKind::kString)
          fail("a global's name is no text");
        push_global(graph_[module].text + "." + graph_[name].text);
        break;
      }
      case 'R':
      case 0x81: call(); break;  // REDUCE, NEWOBJ
      case 'b': {                // BUILD
        const PickleRef state = pop();
        graph_.nodes[top()].state = state;
        break;
      }
      case 'q': remember(take_unsigned<std::uint8_t>()); break;
      case 'r': remember(take_unsigned<std::uint32_t>()); break;
      case 0x94: remember(memo_.size()); break;
      case 'h': recall(take_unsigned<std::uint8_t>()); break;
      case 'j': recall(take_unsigned<std::uint32_t>()); break;
      case 'Q': {
        const PickleRef id = pop();
        push(PickleKind::kPersistent).items = {id};
        break;
      }
      default: fail(cat("operation ", static_cast<int>(op), " is refused: expected containers, plain values and tensors"));
    }
    return false;
  }

  std::string_view bytes_;
  const std::string& origin_;
  const std::function<bool(const std::string&)>& is_allowed_;
  std::size_t position_ = 0, at_ = 0;
  PickleGraph graph_;
  std::vector<PickleRef> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleRef> memo_;
};

}  // namespace

PickleGraph parse_pickle(std::string_view bytes, const std::string& origin,
                         const std::function<bool(const std::string&)>& is_allowed) {
  return PickleMachine(bytes, origin, is_allowed).run();
}

}  // namespace oumi
