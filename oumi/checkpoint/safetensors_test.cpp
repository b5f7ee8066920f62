#include "oumi/checkpoint/safetensors.h"

#include <ATen/ATen.h>

#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/test_support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing_support::error_of;
using testing_support::golden;
using testing_support::write_bytes;

Tensor pattern(at::IntArrayRef shape) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return at::arange(count, at::kFloat).reshape(shape);
}

bool same(const Tensor& a, const Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  if (a.numel() == 0) return true;
  return std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}

// The state of tests/golden/checkpoint.py.
StateDict golden_state() {
  const std::pair<const char*, at::ScalarType> dtypes[] = {{"float64", at::kDouble},
                                                           {"float32", at::kFloat},
                                                           {"float16", at::kHalf},
                                                           {"bfloat16", at::kBFloat16},
                                                           {"int64", at::kLong},
                                                           {"int32", at::kInt},
                                                           {"int16", at::kShort},
                                                           {"int8", at::kChar},
                                                           {"uint8", at::kByte},
                                                           {"uint16", at::kUInt16},
                                                           {"uint32", at::kUInt32},
                                                           {"uint64", at::kUInt64},
                                                           {"complex64", at::kComplexFloat},
                                                           {"float8_e4m3fn", at::kFloat8_e4m3fn},
                                                           {"float8_e5m2", at::kFloat8_e5m2},
                                                           {"float8_e4m3fnuz", at::kFloat8_e4m3fnuz},
                                                           {"float8_e5m2fnuz", at::kFloat8_e5m2fnuz}};
  StateDict state;
  for (const auto& [name, type] : dtypes) state.set(name, pattern({3}).to(type));
  state.set("bool", at::remainder(pattern({3}), 2).to(at::kBool));
  state.set("float8_e8m0fnu", at::pow(2, pattern({3})).to(at::kFloat8_e8m0fnu));
  state.set("weight", pattern({2, 3}));
  state.set("scalar", at::full({}, 7.0f));
  state.set("empty", at::zeros({0, 3}));
  state.set("quote\"back\\slash\ntab\t\u00e9", pattern({2}));
  state.set("", pattern({1}));
  return state;
}

class Safetensors : public testing::Test {
 protected:
  TemporaryDirectory folder_;
  fs::path path_ = folder_.path() / "model.safetensors";
};

TEST_F(Safetensors, WritesTheBytesOfTheReference) {
  save_safetensors(path_, golden_state());
  EXPECT_EQ(read_text_file(path_), read_text_file(golden("dtypes.safetensors")));
  save_safetensors(path_, {}, {.metadata = {}});
  EXPECT_EQ(read_text_file(path_), read_text_file(golden("nothing.safetensors")));
}

TEST_F(Safetensors, ReadsTheReferencesFile) {
  const StateDict read = load_safetensors(golden("dtypes.safetensors"));
  const StateDict expected = golden_state();
  ASSERT_EQ(read.size(), expected.size());
  for (const auto& [name, tensor] : expected) EXPECT_TRUE(same(read.at(name), tensor)) << name;
  EXPECT_EQ(SafetensorsFile(golden("dtypes.safetensors")).metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  EXPECT_TRUE(load_safetensors(golden("nothing.safetensors")).empty());
}

TEST_F(Safetensors, OrderOfTheStateDoesNotMatter) {
  const FileDigest first = save_safetensors(path_, {{"a", pattern({3})}, {"b", pattern({2}).to(at::kLong)}});
  const FileDigest second =
      save_safetensors(folder_.path() / "other", {{"b", pattern({2}).to(at::kLong)}, {"a", pattern({3})}});
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.xxh3_128, hash_file(path_));
  EXPECT_EQ(first.size, fs::file_size(path_));
}

TEST_F(Safetensors, StoresViewsAsTheyLook) {
  const Tensor base = pattern({4, 6});
  const Tensor complex = at::complex(pattern({2}), pattern({2}) + 1);
  const StateDict state{{"t", base.t()},
                        {"slice", base.slice(1, 1, 6, 2)},
                        {"expanded", at::full({1}, 3.0f).expand({5})},
                        {"channels_last", pattern({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast)},
                        {"conj", complex.conj()},
                        {"needs_grad", pattern({2}).set_requires_grad(true)}};
  save_safetensors(path_, state);
  const StateDict read = load_safetensors(path_);
  for (const auto& [name, tensor] : state) EXPECT_TRUE(at::equal(read.at(name), tensor.detach().resolve_conj())) << name;
  EXPECT_TRUE(read.at("t").is_contiguous());
}

TEST_F(Safetensors, TiedTensorsAreWrittenOnce) {
  const Tensor shared = pattern({100});
  const StateDict state{{"embed", shared}, {"head", shared}, {"part", shared.slice(0, 0, 50)}, {"equal", shared.clone()}};
  EXPECT_THAT(find_tied_tensors(state), ElementsAre(Pair("head", "embed")));
  save_safetensors(path_, state);
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.entries().size(), 3u);
  EXPECT_THAT(file.aliases(), ElementsAre(Pair("head", "embed")));
  const StateDict read = file.tensors();
  EXPECT_EQ(read.at("head").data_ptr(), read.at("embed").data_ptr());
  EXPECT_TRUE(same(file.tensor("head"), shared));
  EXPECT_TRUE(same(read.at("part"), shared.slice(0, 0, 50)));
}

TEST_F(Safetensors, TensorsAreViewsThatMayBeChanged) {
  save_safetensors(path_, {{"a", pattern({1000})}});
  const std::string before = read_text_file(path_);
  Tensor tensor = load_safetensors(path_).at("a");  // the file object is gone
  tensor.add_(1);
  EXPECT_EQ(tensor.sum().item<float>(), 1000 * 999 / 2 + 1000);
  fs::remove(path_);
  EXPECT_EQ(tensor[999].item<float>(), 1000);
  write_bytes(path_, before);
  EXPECT_EQ(load_safetensors(path_).at("a")[0].item<float>(), 0);
}

TEST_F(Safetensors, MisalignedFilesAreRead) {
  const std::string json = R"({"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}})";  // 55 bytes: data at 63
  const double values[] = {1.5, -2.5};
  write_bytes(path_, std::string(1, static_cast<char>(json.size())) + std::string(7, '\0') + json +
                         std::string(reinterpret_cast<const char*>(values), 16));
  const Tensor tensor = load_safetensors(path_).at("a");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % 8, 0u);
  EXPECT_EQ(tensor[1].item<double>(), -2.5);
}

TEST_F(Safetensors, RefusesWhatTheFormatLacks) {
  EXPECT_THAT(error_of<UserError>([&] { save_safetensors(path_, {{"z", at::zeros({1}, at::kComplexDouble)}}); }),
              HasSubstr("tensor 'z': safetensors has no dtype for ComplexDouble"));
  EXPECT_THAT(error_of<UserError>([&] { save_safetensors(path_, {{"s", at::zeros({2, 2}).to_sparse()}}); }),
              HasSubstr("tensor 's': expected a dense tensor"));
  EXPECT_THAT(
      error_of<UserError>([&] { save_safetensors(path_, {{"m", at::empty({2}, at::TensorOptions().device(at::kMeta))}}); }),
      HasSubstr("tensor 'm'"));
  EXPECT_THAT(error_of<UserError>([&] { save_safetensors(path_, {{"u", Tensor()}}); }), HasSubstr("undefined"));
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(Safetensors, ErrorsNameThePath) {
  EXPECT_THAT(error_of<UserError>([&] { load_safetensors(path_); }), HasSubstr(path_.string() + ": cannot be read"));
  EXPECT_THAT(error_of<EnvironmentError>([&] { save_safetensors(folder_.path() / "no" / "file", {{"a", pattern({1})}}); }),
              HasSubstr("no/file: cannot be written: No such file"));
  save_safetensors(path_, {{"conv1.weight", pattern({1})}});
  EXPECT_THAT(error_of<UserError>([&] { SafetensorsFile(path_).tensor("conv1.weights"); }),
              HasSubstr("'conv1.weights' is not in the file (1 tensors) | did you mean 'conv1.weight'?"));
  fs::resize_file(path_, fs::file_size(path_) - 1);
  EXPECT_THAT(error_of<UserError>([&] { load_safetensors(path_); }),
              HasSubstr("tensor 'conv1.weight': the file is cut short: expected 4 bytes of tensors, got 3"));
}

TEST_F(Safetensors, AFailedSaveKeepsTheOldFile) {
  save_safetensors(path_, {{"a", pattern({3})}});
  const std::string before = read_text_file(path_);
  EXPECT_THROW(save_safetensors(path_, {{"a", pattern({5})}, {"z", at::zeros({1}, at::kComplexDouble)}}), UserError);
  EXPECT_EQ(read_text_file(path_), before);
}

// --- contents ---

TEST_F(Safetensors, EveryChangedBitIsFoundByTheFilesOwnHashes) {
  const StateDict state{{"a", pattern({3})}, {"b", pattern({5}).to(at::kBFloat16)}, {"none", at::zeros({0})}};
  const FileDigest digest = save_safetensors(path_, state, {.keep_hashes = true});
  EXPECT_EQ(digest.xxh3_128, hash_file(path_));
  const std::string bytes = read_text_file(path_);
  const SafetensorsFile file(path_);
  ASSERT_TRUE(file.keeps_hashes());
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const StateDict read = load_safetensors(path_, ContentCheck::kHashes);
  for (const auto& [name, tensor] : state) EXPECT_TRUE(same(read.at(name), tensor)) << name;
  const std::size_t data = bytes.size() - 3 * 4 - 5 * 2;
  EXPECT_EQ(data % 64, 0u);
  for (std::size_t byte = data; byte < bytes.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
      write_bytes(path_, damaged);
      EXPECT_THAT(error_of<UserError>([&] { load_safetensors(path_, ContentCheck::kHashesElseValues); }),
                  HasSubstr(cat(path_.string(), ": tensor '", byte < data + 12 ? "a" : "b", "' is damaged: expected hash ")));
      EXPECT_NO_THROW(load_safetensors(path_));
    }
  }
}

TEST_F(Safetensors, HashesThatAnotherProgramCopiedAreNotHeldAgainstItsValues) {
  save_safetensors(path_, {{"a", pattern({3})}}, {.keep_hashes = true});
  const SafetensorsMetadata metadata = SafetensorsFile(path_).metadata();
  // As the reference library writes other values with the metadata that it read.
  const std::string json = R"({"__metadata__":{"format":"pt","xxh3_64":")" + metadata.at("xxh3_64") +
                           R"("},"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})";
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const std::size_t size = json.size() + spaces;
    ASSERT_LT(size, 256u);
    write_bytes(path_, std::string(1, static_cast<char>(size)) + std::string(7, '\0') + json + std::string(spaces, ' ') +
                           std::string(12, '\0'));
    EXPECT_FALSE(SafetensorsFile(path_).keeps_hashes());
    EXPECT_EQ(load_safetensors(path_, ContentCheck::kHashes).at("a").sum().item<float>(), 0);
  }
}

TEST_F(Safetensors, ImpossibleWeightsAreFoundWithoutHashes) {
  const auto check = [&](const Tensor& tensor) {
    save_safetensors(path_, {{"good", pattern({9})}, {"w", tensor}});
    load_safetensors(path_, ContentCheck::kHashes);
    return error_of<UserError>([&] { load_safetensors(path_, ContentCheck::kHashesElseValues); });
  };
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, -HUGE_VAL, 2e19, -2e19}) {
      const Tensor tensor = at::ones({10000}, dtype);
      tensor[9998] = bad;
      EXPECT_THAT(check(tensor), HasSubstr("tensor 'w': expected weights, got 1 of 10000 values that are NaN, infinite or"))
          << dtype << ' ' << bad;
    }
    save_safetensors(path_, {{"w", at::full({7}, dtype == at::kHalf ? -65504.0 : -1e19, dtype)}, {"n", at::arange(9)}});
    EXPECT_NO_THROW(load_safetensors(path_, ContentCheck::kHashesElseValues));
  }
  EXPECT_THAT(check(at::full({3000, 5}, NAN).t()), HasSubstr("got 15000 of 15000 values"));
  // Values are what a training made of them where the hashes fit.
  save_safetensors(path_, {{"w", at::full({3}, NAN)}}, {.keep_hashes = true});
  EXPECT_NO_THROW(load_safetensors(path_, ContentCheck::kHashesElseValues));
}

// --- shards ---

StateDict shard_state() {
  StateDict state;
  const int widths[] = {4, 20, 3, 2, 9, 1};
  for (int i = 0; i < 6; ++i) state.set(cat("layer", i, ".weight"), pattern({4, widths[i]}) + i);
  return state;
}

TEST_F(Safetensors, ShardsAsHuggingFaceDoes) {
  const SavedShards saved =
      save_sharded_safetensors(folder_.path(), shard_state(), {.max_shard_size = 128, .keep_hashes = false});
  ASSERT_EQ(saved.files.size(), 5u);
  for (const auto& [name, digest] : saved.files) {
    EXPECT_EQ(read_text_file(folder_.path() / name), read_text_file(golden("sharded/" + name))) << name;
    EXPECT_EQ(digest.xxh3_128, hash_file(golden("sharded/" + name)));
  }
  const StateDict read = load_sharded_safetensors(golden("sharded"));
  for (const auto& [name, tensor] : shard_state()) EXPECT_TRUE(same(read.at(name), tensor)) << name;
}

TEST_F(Safetensors, ADamagedShardIsNamed) {
  save_sharded_safetensors(folder_.path(), shard_state(), {.max_shard_size = 128});
  const fs::path shard = folder_.path() / "model-00004-of-00004.safetensors";
  std::string bytes = read_text_file(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 0x40);
  write_bytes(shard, bytes);
  EXPECT_THAT(error_of<UserError>([&] { load_sharded_safetensors(folder_.path(), "model", ContentCheck::kHashes); }),
              HasSubstr(shard.string() + ": tensor 'layer5.weight' is damaged"));
}

TEST_F(Safetensors, AnOlderSavesShardsGo) {
  save_sharded_safetensors(folder_.path(), shard_state(), {.max_shard_size = 128});
  write_bytes(folder_.path() / "model-00001-of-00004.txt", "mine");
  write_bytes(folder_.path() / "other-00001-of-00004.safetensors", "mine");
  const SavedShards whole = save_sharded_safetensors(folder_.path(), shard_state());
  EXPECT_THAT(whole.removed, ElementsAre("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                                         "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                                         "model.safetensors.index.json"));
  EXPECT_TRUE(fs::exists(folder_.path() / "model-00001-of-00004.txt"));
  EXPECT_TRUE(fs::exists(folder_.path() / "other-00001-of-00004.safetensors"));
  const SavedShards split = save_sharded_safetensors(folder_.path(), shard_state(), {.max_shard_size = 300});
  EXPECT_THAT(split.removed, ElementsAre("model.safetensors"));
  EXPECT_EQ(load_sharded_safetensors(folder_.path()).size(), 6u);
}

TEST_F(Safetensors, TiedTensorsAcrossShards) {
  const Tensor shared = pattern({100});
  const StateDict state{{"embed", shared}, {"middle", pattern({100})}, {"head", shared}};
  save_sharded_safetensors(folder_.path(), state, {.max_shard_size = 400});
  const StateDict read = load_sharded_safetensors(folder_.path());
  EXPECT_EQ(read.at("head").data_ptr(), read.at("embed").data_ptr());
  EXPECT_FALSE(read_json_file(folder_.path() / "model.safetensors.index.json")["weight_map"].contains("head"));
}

TEST_F(Safetensors, BadIndexesAreRefused) {
  const fs::path index = folder_.path() / "model.safetensors.index.json";
  const auto message = [&] { return error_of<UserError>([&] { load_sharded_safetensors(folder_.path()); }); };
  EXPECT_THAT(message(), HasSubstr("no weights found: expected model.safetensors or model.safetensors.index.json"));
  write_bytes(index, R"({"weight_map": {"a": "../../secret"}})");
  EXPECT_THAT(message(), HasSubstr("weight_map.a: expected a file name, got '../../secret'"));
  write_bytes(index, R"({"weight_map": {"a": ".."}})");
  EXPECT_THAT(message(), HasSubstr("expected a file name"));
  write_bytes(index, R"({"weight_map": {"a": 3}})");
  EXPECT_THAT(message(), HasSubstr("weight_map.a: expected str, got int"));
  write_bytes(index, R"([1])");
  EXPECT_THAT(message(), HasSubstr("expected a dict with the dict weight_map, got list"));
  write_bytes(index, R"({"weight_map": {"a": "x.safetensors"}})");
  EXPECT_THAT(message(), HasSubstr("x.safetensors: the index lists this file, and it is missing"));
  save_safetensors(folder_.path() / "x.safetensors", {{"b", pattern({1})}});
  EXPECT_THAT(message(), HasSubstr("tensor 'a': the index lists it here, and it is missing"));
}

TEST(ShardSize, Reads) {
  EXPECT_EQ(parse_shard_size("5GB"), 5'000'000'000u);
  EXPECT_EQ(parse_shard_size(" 1 GiB "), 1u << 30);
  EXPECT_EQ(parse_shard_size("123"), 123u);
  for (const char* bad : {"", "GB", "0", "-1GB", "5XB", "1.5GB", "99999999999999999999", "99999999999TB"}) {
    EXPECT_THAT(error_of<UserError>([&] { parse_shard_size(bad); }), HasSubstr(std::string("got '") + bad + "'"));
  }
}

}  // namespace
}  // namespace oumi
