#include "oumi/checkpoint/torch_file.h"

#include <ATen/ATen.h>
#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/jit_type.h>

#include <random>

#include "oumi/base/json.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/convert.h"
#include "oumi/checkpoint/pickle_graph.h"
#include "oumi/checkpoint/rng_state.h"
#include "oumi/checkpoint/test_support.h"
#include "oumi/checkpoint/zip_reader.h"
#include "oumi/checkpoint/zip_writer.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using c10::IValue;
using testing::HasSubstr;
using testing_support::error_of;
using testing_support::golden;
using testing_support::write_bytes;

Tensor pattern(at::IntArrayRef shape) {
  std::int64_t count = 1;
  for (const auto size : shape) count *= size;
  return at::arange(count, at::kFloat).reshape(shape);
}

IValue get(const IValue& dict, const IValue& key) { return dict.toGenericDict().at(key); }

TEST(TorchFile, ReadsAStateDict) {
  const StateDict state = load_torch_state_dict(golden("state_dict.pt"));
  const Tensor base = pattern({4, 6});
  EXPECT_TRUE(at::equal(state.at("transposed"), base.t()));
  EXPECT_TRUE(at::equal(state.at("slice"), base.slice(0, 1, 3).slice(1, 2, 6, 2)));
  EXPECT_EQ(state.at("slice").storage().data(), state.at("transposed").storage().data());
  EXPECT_EQ(state.at("tied").data_ptr(), state.at("tied_too").data_ptr());
  EXPECT_TRUE(at::equal(state.at("tied"), pattern({2, 2})));
  EXPECT_FALSE(state.at("tied").requires_grad());
  EXPECT_TRUE(at::equal(state.at("bf16"), pattern({3}).to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(state.at("half"), pattern({3}).to(at::kHalf)));
  EXPECT_TRUE(at::equal(state.at("bool"), pattern({3}) > 1));
  EXPECT_EQ(state.at("fp8").scalar_type(), at::kFloat8_e4m3fn);
  EXPECT_TRUE(at::equal(state.at("fp8").to(at::kFloat), pattern({3})));
  EXPECT_EQ(state.at("u16").scalar_type(), at::kUInt16);
  EXPECT_TRUE(at::equal(state.at("u16").to(at::kFloat), pattern({3})));
  EXPECT_EQ(state.at("scalar").item<int>(), 7);
  EXPECT_EQ(state.at("empty").sizes(), at::IntArrayRef({0, 3}));
  EXPECT_TRUE(at::equal(state.at("complex"), at::complex(pattern({2}), -pattern({2}))));
  EXPECT_EQ(state.at("num_batches_tracked").scalar_type(), at::kLong);
  EXPECT_EQ(state.names().front(), "weight");
}

TEST(TorchFile, FindsANestedStateDict) {
  EXPECT_TRUE(at::equal(load_torch_state_dict(golden("nested.pt")).at("weight"), pattern({4, 6})));  // pickle protocol 4
  const IValue all = read_torch_file(golden("nested.pt"));
  EXPECT_EQ(get(all, "epoch").toInt(), 3);
  EXPECT_EQ(get(get(all, "args"), "lr").toDouble(), 0.1);
}

TEST(TorchFile, ReadsOptimizerAndScheduler) {
  const Json values = read_json_file(golden("values.json"));
  const IValue optimizer = read_torch_file(golden("optimizer.pt"));
  const IValue first = get(get(optimizer, "state"), std::int64_t{0});
  EXPECT_EQ(get(first, "step").toTensor().item<float>(), 1);
  EXPECT_EQ(get(first, "exp_avg").toTensor()[1][2].item<double>(), values["exp_avg"][1][2].get<double>());
  const IValue group = get(optimizer, "param_groups").toListRef()[0];
  EXPECT_EQ(get(group, "lr").toDouble(), values["lr"].get<double>());
  EXPECT_EQ(get(group, "betas").toTupleRef().elements()[1].toDouble(), 0.999);
  EXPECT_TRUE(get(group, "foreach").isNone());
  EXPECT_FALSE(get(group, "amsgrad").toBool());
  EXPECT_EQ(get(group, "params").toListRef()[0].toInt(), 0);
  const IValue scheduler = read_torch_file(golden("scheduler.pt"));
  EXPECT_EQ(get(scheduler, "last_epoch").toInt(), 1);
  EXPECT_EQ(get(scheduler, "base_lrs").toListRef()[0].toDouble(), 1e-3);
}

TEST(TorchFile, ReadsRandomStates) {
  const Json values = read_json_file(golden("values.json"));
  const IValue state = read_torch_file(golden("rng_state.pth"));
  const Tensor keys = get(state, "numpy").toTupleRef().elements()[1].toTensor();
  EXPECT_EQ(keys.scalar_type(), at::kUInt32);
  EXPECT_EQ(keys.numel(), 624);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(keys.to(at::kLong)[i].item<std::int64_t>(),
              values["numpy_keys"][static_cast<std::size_t>(i)].get<std::int64_t>());
  restore_cpu_rng_state(get(state, "cpu").toTensor());
  const Tensor drawn = at::rand({4}, at::kDouble);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(drawn[i].item<double>(), values["rand"][static_cast<std::size_t>(i)].get<double>());
}

TEST(TorchFile, RefusesWhatIsNoData) {
  EXPECT_THAT(error_of<UserError>([] { read_torch_file(golden("evil.pt")); }),
              HasSubstr("evil.pt: refused: the file wants to load 'posix.system', expected tensors and plain values only"));
  EXPECT_THAT(error_of<UserError>([] { read_torch_file(golden("module.pt")); }), HasSubstr("'torch.nn.modules.linear.Linear'"));
  EXPECT_THAT(error_of<UserError>([] { load_torch_state_dict(golden("mixed.pt")); }),
              HasSubstr("key 'note': expected a tensor, got String"));
  EXPECT_THAT(error_of<UserError>([] { load_torch_state_dict(golden("tensor_only.pt")); }),
              HasSubstr("expected a dict of tensors, got Tensor"));
}

TEST(TorchFile, RefusesOtherFiles) {
  EXPECT_THAT(error_of<UserError>([] { read_torch_file(golden("legacy.pt")); }),
              HasSubstr("got a bare pickle (torch.save before 1.6"));
  EXPECT_THAT(error_of<UserError>([] { read_torch_file(golden("dtypes.safetensors")); }), HasSubstr("got something else"));
  EXPECT_THAT(error_of<UserError>([] { read_torch_file(golden("absent.pt")); }), HasSubstr("absent.pt: cannot be read"));
  const TemporaryDirectory folder;
  write_bytes(folder.path() / "empty.pt", "");
  EXPECT_THAT(error_of<UserError>([&] { read_torch_file(folder.path() / "empty.pt"); }), HasSubstr("the file is empty"));
  const std::string good = read_text_file(golden("state_dict.pt"));
  for (const std::size_t size : {std::size_t{2}, std::size_t{100}, good.size() / 2, good.size() - 1}) {
    write_bytes(folder.path() / "cut.pt", good.substr(0, size));
    EXPECT_THAT(error_of<UserError>([&] { read_torch_file(folder.path() / "cut.pt"); }), HasSubstr("cut.pt")) << size;
  }
}

IValue sample_value(const Tensor& shared) {
  c10::impl::GenericDict dict(c10::AnyType::get(), c10::AnyType::get());
  c10::impl::GenericList list(c10::AnyType::get());
  for (const IValue& item :
       std::vector<IValue>{std::int64_t{0}, std::int64_t{255}, std::int64_t{256}, std::int64_t{-1},
                           std::numeric_limits<std::int64_t>::min(), 0.1, true, false, IValue(), "text \u00e9"})
    list.push_back(item);
  dict.insert("list", list);
  dict.insert(std::int64_t{7}, c10::ivalue::Tuple::create({IValue(0.9), IValue(0.999)}));
  dict.insert("shared", shared);
  dict.insert("view", shared.t());
  dict.insert("typed", std::vector<std::int64_t>{1, 2});
  dict.insert("fp8", pattern({3}).to(at::kFloat8_e5m2));
  dict.insert("empty", at::zeros({0}));
  return dict;
}

TEST(TorchFile, ReadsWhatItWrites) {
  const TemporaryDirectory folder;
  const Tensor shared = pattern({3, 5});
  const FileDigest first = write_torch_file(folder.path() / "a.pt", sample_value(shared));
  EXPECT_EQ(first, write_torch_file(folder.path() / "b.pt", sample_value(shared)));
  EXPECT_EQ(first.xxh3_128, hash_file(folder.path() / "b.pt"));
  const IValue read = read_torch_file(folder.path() / "a.pt");
  const auto list = get(read, "list").toListRef();
  EXPECT_EQ(list[4].toInt(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(list[3].toInt(), -1);
  EXPECT_EQ(list[2].toInt(), 256);
  EXPECT_EQ(list[5].toDouble(), 0.1);
  EXPECT_TRUE(list[6].toBool() && !list[7].toBool() && list[8].isNone());
  EXPECT_EQ(list[9].toStringRef(), "text \u00e9");
  EXPECT_EQ(get(read, std::int64_t{7}).toTupleRef().elements()[1].toDouble(), 0.999);
  EXPECT_TRUE(at::equal(get(read, "view").toTensor(), shared.t()));
  EXPECT_EQ(get(read, "view").toTensor().data_ptr(), get(read, "shared").toTensor().data_ptr());
  EXPECT_TRUE(at::equal(get(read, "fp8").toTensor().to(at::kFloat), pattern({3})));
  EXPECT_EQ(get(read, "typed").toListRef()[1].toInt(), 2);
}

TEST(TorchFile, RefusesToWriteOtherValues) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of<UserError>([&] { write_torch_file(folder.path() / "a.pt", at::Device(at::kCPU)); }),
              HasSubstr("got Device"));
  EXPECT_THAT(error_of<UserError>([&] { write_torch_file(folder.path() / "a.pt", at::zeros({2, 2}).to_sparse()); }),
              HasSubstr("expected dense tensors"));
  c10::impl::GenericList loop(c10::AnyType::get());
  loop.push_back(loop);
  EXPECT_THAT(error_of<UserError>([&] { write_torch_file(folder.path() / "a.pt", loop); }), HasSubstr("at most 200 levels"));
  loop.clear();
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Convert, ThereAndBack) {
  const TemporaryDirectory folder;
  const fs::path file = folder.path() / "weights.pt";
  fs::copy_file(golden("state_dict.pt"), file);
  const auto written = convert_weights(file, {});
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written[0], folder.path() / "weights.safetensors");
  EXPECT_THAT(error_of<UserError>([&] { convert_weights(file, {}); }), HasSubstr("weights.safetensors: exists already"));
  EXPECT_THAT(error_of<UserError>([&] { convert_weights(file, {.to = WeightFormat::kTorch}); }),
              HasSubstr("has the wanted format already"));
  EXPECT_THAT(error_of<UserError>([&] { convert_weights(folder.path() / "no.pt", {}); }), HasSubstr("does not exist"));
  fs::create_directory(folder.path() / "model");
  EXPECT_THAT(error_of<UserError>([&] { convert_weights(folder.path() / "model", {}); }),
              HasSubstr("no weights found: expected pytorch_model.bin"));
  fs::copy_file(written[0], folder.path() / "model/model.safetensors");
  EXPECT_EQ(convert_weights(folder.path() / "model", {.to = WeightFormat::kTorch}).front(),
            folder.path() / "model/pytorch_model.bin");
  fs::remove(folder.path() / "model/model.safetensors");
  convert_weights(folder.path() / "model", {});
  EXPECT_EQ(read_text_file(folder.path() / "model/model.safetensors"), read_text_file(written[0]));
}

// --- hostile pickles ---

bool allow_all(const std::string&) { return true; }

std::string pickle_error(const std::string& bytes) {
  return error_of<UserError>([&] { parse_pickle(bytes, "f.pt", allow_all); });
}

TEST(Pickle, RefusesDamage) {
  EXPECT_THAT(pickle_error(""), HasSubstr("f.pt: pickle, byte 0: expected 1 more bytes, got 0"));
  EXPECT_THAT(pickle_error("\x80\x01."), HasSubstr("expected protocol 2 to 5, got 1"));
  EXPECT_THAT(pickle_error("\x80\x02."), HasSubstr("finds nothing to work on"));
  EXPECT_THAT(pickle_error("\x80\x02t."), HasSubstr("finds no mark"));
  EXPECT_THAT(pickle_error("\x80\x02h\x05."), HasSubstr("a reference to what was not stored"));
  EXPECT_THAT(pickle_error("\x80\x02NNR."), HasSubstr("a call of what is no function"));
  EXPECT_THAT(pickle_error("\x80\x02NNa."), HasSubstr("append to what is no list"));
  EXPECT_THAT(pickle_error("\x80\x02}(Nu."), HasSubstr("a key without a value"));
  EXPECT_THAT(pickle_error("\x80\x02NNNs."), HasSubstr("no dict"));
  EXPECT_THAT(pickle_error(std::string("\x80\x02X\xff\xff\xff\xff", 7) + "abc"),
              HasSubstr("expected 4294967295 more bytes, got 3"));
  EXPECT_THAT(pickle_error(std::string("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", 11)), HasSubstr("more bytes, got 0"));
  EXPECT_THAT(pickle_error("\x80\x02\x8a\x09"
                           "123456789."),
              HasSubstr("an integer of 9 bytes"));
  EXPECT_THAT(pickle_error("\x80\x02I1\n."), HasSubstr("operation 73 is refused"));
  EXPECT_THAT(pickle_error("\x80\x02(i"), HasSubstr("operation 105 is refused"));
  EXPECT_THAT(pickle_error("\x80\x02"
                           "cos\nsystem"),
              HasSubstr("a name has no end"));
}

TEST(Pickle, AsksForEveryGlobal) {
  const auto allow_none = [](const std::string&) { return false; };
  EXPECT_THAT(error_of<UserError>([&] {
                parse_pickle(
                    "\x80\x02"
                    "cos\nsystem\n.",
                    "f", allow_none);
              }),
              HasSubstr("'os.system'"));
  EXPECT_THAT(error_of<UserError>([&] { parse_pickle(std::string("\x80\x04\x8c\x02os\x8c\x06system\x93."), "f", allow_none); }),
              HasSubstr("'os.system'"));
}

TEST(Pickle, DeepAndCyclicGraphsAreHarmless) {
  std::string deep = "\x80\x02";
  for (int i = 0; i < 500000; ++i) deep += ']';
  for (int i = 1; i < 500000; ++i) deep += 'a';
  EXPECT_EQ(parse_pickle(deep + ".", "f", allow_all).nodes.size(), 500000u);
  const PickleGraph loop = parse_pickle(std::string("\x80\x02]q\0h\0a.", 9), "f", allow_all);
  EXPECT_EQ(loop[loop.root].items[0], loop.root);
}

// data.pkl is stored uncompressed, so damage of the whole file reaches every layer: zip, checksum, pickle, tensors.
TEST(TorchFile, SurvivesMutations) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "m.pt";
  std::mt19937 random(11);
  const std::string program = ZipReader(golden("state_dict.pt")).read_text("data.pkl");
  int accepted = 0, refused = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = program;
    for (int i = 1 + static_cast<int>(random() % 3); i > 0; --i) {
      const std::size_t at = random() % bytes.size();
      if (random() % 3 != 0)
        bytes[at] = static_cast<char>(random());
      else
        bytes.erase(at, 1 + random() % 4);
    }
    try {
      parse_pickle(bytes, "m.pt", allow_all);
      ++accepted;
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);

  const std::string good = read_text_file(golden("optimizer.pt"));
  refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = good;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    write_bytes(path, bytes);
    try {
      read_torch_file(path);
    } catch (const UserError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

// A file around a hand-made program, with checksums that fit.
void write_program(const fs::path& path, const std::string& program, const std::string& storage) {
  OutputFile file(path);
  ZipWriter zip(file);
  zip.add("archive/data.pkl", program.data(), program.size());
  zip.add("archive/data/0", storage.data(), storage.size());
  zip.finish();
  file.commit();
}

std::string tensor_program(const std::string& offset, const std::string& sizes, const std::string& strides,
                           const std::string& numel = "K\x0f") {
  return "\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2\n((X" +
         std::string("\x07\0\0\0storage", 11) + "ctorch\nFloatStorage\nX" +
         std::string(
             "\x01\0\0\0"
             "0",
             5) +
         "X" +
         std::string(
             "\x03\0\0\0"
             "cpu",
             7) +
         numel + "tQ" + offset + "(" + sizes + "t(" + strides +
         "t\x89"
         "ccollections\nOrderedDict\n)RtR.";
}

TEST(TorchFile, TensorsStayInsideTheirStorage) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "t.pt";
  const Tensor values = pattern({15});
  const std::string storage(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
  const auto read = [&](const std::string& program) {
    write_program(path, program, storage);
    return read_torch_file(path).toTensor();
  };
  const std::string zero("K\0", 2), one("K\1"), k3("K\3"), k5("K\5");
  EXPECT_TRUE(at::equal(read(tensor_program(zero, k3 + k5, k5 + one)), pattern({3, 5})));
  EXPECT_TRUE(at::equal(read(tensor_program("K\x0e", one, one)), at::full({1}, 14.0f)));
  EXPECT_EQ(read(tensor_program(zero, zero + k5, k5 + one)).numel(), 0);
  const std::string huge("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", 10), minus("J\xff\xff\xff\xff", 5);
  for (const auto& program :
       {tensor_program(one, k3 + k5, k5 + one), tensor_program("K\x0f", one, one), tensor_program(minus, one, one),
        tensor_program(zero, one, ""), tensor_program(zero, minus, one), tensor_program(zero, k5, minus),
        tensor_program(zero, k3, huge), tensor_program(zero, huge + huge, zero + zero), tensor_program(huge, one, one),
        tensor_program(zero, huge, zero)}) {
    const std::string message = error_of<UserError>([&] { read(program); });
    EXPECT_TRUE(message.find("reaches outside its storage '0'") != std::string::npos ||
                message.find("sizes and 0 strides") != std::string::npos)
        << message;
  }
  EXPECT_THAT(error_of<UserError>([&] { read(tensor_program(zero, one, one, "K\x10")); }),
              HasSubstr("record 'data/0': expected 64 bytes, got 60"));
  EXPECT_THAT(error_of<UserError>([&] { read(tensor_program(zero, one, one, huge)); }),
              HasSubstr("a storage of 9223372036854775807 elements"));
  // A list in itself, and one that doubles at each level.
  EXPECT_THAT(error_of<UserError>([&] { write_program(path, std::string("\x80\x02]q\0h\0a.", 9), ""), read_torch_file(path); }),
              HasSubstr("at most 200 levels"));
  std::string doubling = "\x80\x02]";
  for (int i = 0; i < 100; ++i) doubling += std::string("q\0]h\0ah\0a", 9);
  write_program(path, doubling + ".", "");
  EXPECT_TRUE(read_torch_file(path).isList());
}

}  // namespace
}  // namespace oumi
