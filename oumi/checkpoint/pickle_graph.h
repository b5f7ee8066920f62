// Python pickles as data: what a pickle would build, without building it. No class is looked up and nothing is called; names of
// classes and functions are kept as text for the reader to judge. No torch here.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace oumi {

enum class PickleKind { kNone, kBool, kInt, kFloat, kString, kBytes, kTuple, kList, kDict, kGlobal, kCall, kPersistent };

using PickleRef = std::uint32_t;  // index of a node in its graph
inline constexpr PickleRef kNoPickleRef = 0xffffffff;

struct PickleNode {
  PickleKind kind = PickleKind::kNone;
  std::int64_t integer = 0;      // kInt, kBool
  double number = 0;             // kFloat
  std::string text;              // kString, kBytes; kGlobal: "module.name"; kCall: the called global's name
  std::vector<PickleRef> items;  // kTuple, kList; kDict: key, value, key, value; kCall: its arguments; kPersistent: one, its id
  PickleRef state = kNoPickleRef;  // what BUILD gave to the object
};

// Nodes refer to each other by index: shared objects, cycles and any depth are all the same to it.
struct PickleGraph {
  std::deque<PickleNode> nodes;
  PickleRef root = kNoPickleRef;

  const PickleNode& operator[](PickleRef ref) const { return nodes[ref]; }
};

// Reads protocols 2 to 5. `is_allowed` is asked about each global, and a refused one is a UserError naming it, as is damage and
// every operation beyond plain data. collections.OrderedDict becomes a dict here. Memory: at most some 100 bytes for each byte.
PickleGraph parse_pickle(std::string_view bytes, const std::string& origin,
                         const std::function<bool(const std::string&)>& is_allowed);

}  // namespace oumi
