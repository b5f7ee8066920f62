#include "oumi/checkpoint/safetensors_header.h"

#include <random>

#include "oumi/base/strings.h"
#include "oumi/checkpoint/test_support.h"

namespace oumi {
namespace {

using testing::HasSubstr;
using testing_support::error_of;

std::string with_length(const std::string& json, std::size_t data_size) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>((json.size() >> (8 * i)) & 0xff);
  return bytes + json + std::string(data_size, 'd');
}

SafetensorsHeader parse(const std::string& bytes) {
  return parse_safetensors_header(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "file.safetensors");
}

TEST(SafetensorsHeader, ReadsWhatItWrites) {
  std::vector<SafetensorsEntry> entries(3);
  entries[0] = {"b", find_safetensors_dtype("U8"), {3}, 0, 0};
  entries[1] = {"a\"\n", find_safetensors_dtype("F32"), {}, 0, 0};
  entries[2] = {"c", find_safetensors_dtype("I64"), {2, 0}, 0, 0};
  const std::string header = build_safetensors_header(entries, {{"format", "pt"}, {"k", "v\"é"}}, "f");
  EXPECT_EQ(header.size() % 8, 0u);
  const SafetensorsHeader read = parse(header + std::string(7, 'x'));
  ASSERT_EQ(read.entries.size(), 3u);
  EXPECT_EQ(read.data_begin, header.size());
  EXPECT_EQ(read.metadata, (SafetensorsMetadata{{"format", "pt"}, {"k", "v\"é"}}));
  EXPECT_EQ(read.entries[0].name, "c");
  EXPECT_EQ(read.entries[1].name, "a\"\n");
  EXPECT_EQ(read.entries[2].name, "b");
  EXPECT_EQ(read.entries[2].begin, 4u);
  EXPECT_EQ(read.entries[2].end, 7u);
}

struct Refusal {
  const char* json;
  std::size_t data_size;
  const char* message;
};

TEST(SafetensorsHeader, RefusesWithReasons) {
  const Refusal refusals[] = {
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7,
       "tensor 'a': the file is cut short: expected 8 bytes of tensors, got 7"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9,
       "do not fill the file: expected 8 bytes of tensors, got 9"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7,
       "tensor 'a': F32 [2]: expected 8 bytes, got data_offsets [0, 7]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "leave a hole: expected to begin at 0, got 4"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6,
       "tensor 'b': data_offsets overlap the tensor before"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", 4, "leave a hole"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,18446744073709551615]}})", 4,
       "expected 0 bytes, got data_offsets [0, 18446744073709551615]"},
      {R"({"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, "is no possible size"},
      {R"({"a":{"dtype":"F64","shape":[9223372036854775807,0],"data_offsets":[0,0]}})", 0, "is no possible size"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "is no possible size"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "non-negative integers below 2^63 in shape, got -1"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "non-negative integers below 2^63 in shape, got 1.0"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4, "in shape, got 18446744073709551615"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", 4,
       "expected a dtype of the format (F32, BF16, ...), got 'F33'"},
      {R"({"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", 4, "tensor 'a': key dtype: got a number"},
      {R"({"a":{"dtype":"U8","shape":"1","data_offsets":[0,4]}})", 4, "tensor 'a': key shape: got a string"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4, "expected 2 data_offsets, got 1"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4, "expected 2 data_offsets, got more"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4, "tensor 'a': shape is missing"},
      {R"({"a":{"shape":[4],"data_offsets":[0,4]}})", 4, "tensor 'a': dtype is missing"},
      {R"({"a":{"dtype":"U8","shape":[[4]],"data_offsets":[0,4]}})", 4, "tensor 'a': expected integers, got a list"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
       "tensor 'a': expected once, got twice"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", 0, "metadata key 'a': expected once, got twice"},
      {R"({"__metadata__":{"a":1}})", 0, "metadata key 'a': expected a string, got a number"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__: expected once, got twice"},
      {R"({"a":3})", 0, "tensor 'a': expected a dict, got a number"},
      {R"({"a":{"dtype":"U8")", 0, "not valid JSON at byte"},
      {R"({"a":"\ud800"})", 0, "not valid JSON"},
      {R"([])", 0, "expected '{' at byte 8"},
      {R"({} {})", 0, "not valid JSON"},
      {R"({"a":{"x":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}})", 0, "more than 16 levels"},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_THAT(error_of<UserError>([&] { parse(with_length(refusal.json, refusal.data_size)); }), HasSubstr(refusal.message))
        << refusal.json;
  }
}

TEST(SafetensorsHeader, RefusesLengths) {
  EXPECT_THAT(error_of<UserError>([] { parse(""); }),
              HasSubstr("file.safetensors: not a safetensors file: expected at least 8 bytes, got 0"));
  EXPECT_THAT(error_of<UserError>([] { parse(std::string(8, '\0')); }), HasSubstr("expected '{'"));
  EXPECT_THAT(error_of<UserError>([] { parse(std::string(8, '\xff') + "{}"); }),
              HasSubstr("at most 100000000 bytes, got 18446744073709551615"));
  EXPECT_THAT(error_of<UserError>([] { parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)); }),
              HasSubstr("header is cut short: expected 3 bytes, got 2"));
}

TEST(SafetensorsHeader, TakesWhatOtherWritersDo) {
  // Keys that are unknown, spaces, tensors in another order than their bytes, a header of odd length.
  const SafetensorsHeader header = parse(with_length(
      R"( {"b":{"extra":{"y":[1,{"dtype":"no"}]},"data_offsets":[1,3],"shape":[2],"dtype":"U8"}, "a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}   )" +
          1,
      3));
  ASSERT_EQ(header.entries.size(), 2u);
  EXPECT_EQ(header.entries[0].name, "a");
  EXPECT_EQ(header.entries[1].shape, (std::vector<std::int64_t>{2}));
}

TEST(SafetensorsHeader, NamesMustBeStorable) {
  std::vector<SafetensorsEntry> reserved(1);
  reserved[0] = {"__metadata__", find_safetensors_dtype("U8"), {1}, 0, 0};
  EXPECT_THAT(error_of<UserError>([&] { build_safetensors_header(reserved, {}, "f"); }), HasSubstr("reserved"));
  std::vector<SafetensorsEntry> bytes(1);
  bytes[0] = {"\xff\xfe", find_safetensors_dtype("U8"), {1}, 0, 0};
  EXPECT_THAT(error_of<UserError>([&] { build_safetensors_header(bytes, {}, "f"); }), HasSubstr("expected UTF-8"));
}

// Nothing but a UserError comes out of a damaged file, whatever the damage; and some damage must go unnoticed by the
// format (a renamed tensor), so that this test is seen to reach the parser.
TEST(SafetensorsHeader, SurvivesMutations) {
  const std::string good = read_text_file(testing_support::golden("dtypes.safetensors"));
  std::mt19937 random(7);
  int accepted = 0, refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    const int edits = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < edits; ++i) {
      const std::size_t at = random() % std::min<std::size_t>(bytes.size(), 1600);
      switch (random() % 4) {
        case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8))); break;
        case 1: bytes[at] = "{}[]\",:0123456789"[random() % 17]; break;
        case 2: bytes.erase(at, 1 + random() % 8); break;
        default: bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16)); break;
      }
      if (bytes.empty()) bytes = "x";
    }
    try {
      const SafetensorsHeader header = parse(bytes);
      for (const auto& entry : header.entries) ASSERT_LE(header.data_begin + entry.end, bytes.size());
      ++accepted;
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace oumi
