// IDX, NPZ and image files: what they become, and what is said about broken ones.
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <zlib.h>

#include "oumi/data/formats/idx.h"
#include "oumi/data/formats/image_codec.h"
#include "oumi/data/formats/npy.h"
#include "oumi/data/registry.h"
#include "oumi/data/tensor_dataset.h"
#include "oumi/data/testing/support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using testing::golden;
using testing::golden_file;
using ::testing::HasSubstr;

DatasetPtr make(const std::string& name, const fs::path& path, Json kwargs = Json::object(),
                const std::string& split = "train") {
  return make_dataset(
      {.name = name, .path = path, .subset = {}, .split = split, .kwargs = Kwargs(std::move(kwargs), "dataset_kwargs")});
}

std::string idx(std::string header, const std::string& data) { return header + data; }
std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

void write_gzip(const fs::path& path, const std::string& contents) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, contents.data(), static_cast<unsigned>(contents.size()));
  gzclose(file);
}

const std::string kImages = idx(bytes({0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2}), bytes({0, 255, 51, 102}));
const std::string kLabels = idx(bytes({0, 0, 8, 1, 0, 0, 0, 2}), bytes({3, 1}));

TEST(Idx, ReadsPlainAndCompressedPairs) {
  const TemporaryDirectory folder;
  testing::write(folder.path() / "train-images-idx3-ubyte", kImages);
  write_gzip(folder.path() / "train-labels-idx1-ubyte.gz", kLabels);
  const DatasetPtr dataset = make("idx", folder.path());
  ASSERT_EQ(dataset->size(), 2);
  const Sample sample = dataset->get(1);
  EXPECT_EQ(sample.at("images").sizes(), (std::vector<std::int64_t>{1, 1, 2}));
  EXPECT_TRUE(at::equal(sample.at("images").flatten(), at::tensor({51.0f, 102.0f}).div(255)));
  EXPECT_EQ(sample.at("labels").item<std::int64_t>(), 1);
  // Raw bytes on request.
  EXPECT_EQ(make("idx", folder.path(), {{"scale", false}})->get(0).at("images").scalar_type(), c10::kByte);
  // Named files.
  testing::write(folder.path() / "x.idx", kImages);
  testing::write(folder.path() / "y.idx", kLabels);
  EXPECT_EQ(make("idx", folder.path(), {{"images", "x.idx"}, {"labels", "y.idx"}})->size(), 2);
  EXPECT_THAT(error_of([&] { make("idx", folder.path(), {{"images", "x.idx"}}); }),
              HasSubstr("expected both images and labels"));
}

TEST(Idx, ReadsGzipFilesOfSeveralMembers) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "images.gz", second = folder.path() / "second.gz";
  write_gzip(path, kImages.substr(0, 18));
  write_gzip(second, kImages.substr(18));
  std::ofstream(path, std::ios::binary | std::ios::app) << std::ifstream(second, std::ios::binary).rdbuf();
  EXPECT_TRUE(at::equal(read_idx(path).flatten(), at::tensor({0, 255, 51, 102}, c10::kByte)));
}

TEST(Idx, SaysWhichCompressedFileHasAFlippedBit) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "images.gz";
  write_gzip(path, kImages);
  const std::string sound = testing::read(path);
  const Tensor expected = read_idx(path);
  // Behind gzip's header of 10 bytes: the data, its checksum and its size. The bits that fill the data's last byte say nothing.
  int unnoticed = 0;
  for (std::size_t bit = 80; bit < 8 * sound.size(); ++bit) {
    std::string flipped = sound;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    testing::write(path, flipped);
    try {
      EXPECT_TRUE(at::equal(read_idx(path), expected)) << "bit " << bit;
      ++unnoticed;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr("images.gz")) << "bit " << bit;
    }
  }
  EXPECT_LT(unnoticed, 8);
}

TEST(Idx, FingerprintFollowsContentsAndTransforms) {
  const TemporaryDirectory folder;
  testing::write(folder.path() / "train-images-idx3-ubyte", kImages);
  testing::write(folder.path() / "train-labels-idx1-ubyte", kLabels);
  const std::string before = make("idx", folder.path())->fingerprint();
  EXPECT_EQ(before, make("idx", folder.path())->fingerprint());
  EXPECT_NE(before, make("idx", folder.path(), {{"mean", 0.5}})->fingerprint());
  std::string changed = kImages;
  changed.back() ^= 1;
  testing::write(folder.path() / "train-images-idx3-ubyte", changed);
  EXPECT_NE(before, make("idx", folder.path())->fingerprint());
}

TEST(Idx, WiderTypesAreBigEndian) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "x";
  testing::write(path, bytes({0, 0, 0x0B, 1, 0, 0, 0, 2, 1, 2, 0xFF, 0xFF}));
  EXPECT_TRUE(at::equal(read_idx(path).to(c10::kLong), at::tensor({258, -1})));
  testing::write(path, bytes({0, 0, 0x0D, 1, 0, 0, 0, 1, 0x3F, 0x80, 0, 0}));
  EXPECT_EQ(read_idx(path)[0].item<float>(), 1.0f);
}

TEST(Idx, SaysWhatIsBroken) {
  const TemporaryDirectory folder;
  const fs::path path = folder.path() / "broken";
  const auto message = [&](const std::string& contents) {
    testing::write(path, contents);
    return error_of([&] { read_idx(path); });
  };
  EXPECT_THAT(message(""), AllOf(HasSubstr(path.string()), HasSubstr("expected an IDX header, got fewer than 4 bytes")));
  EXPECT_THAT(message(bytes({1, 0, 8, 1})),
              HasSubstr("not an IDX file: expected magic number 00 00 [dtype 08-0e] [dimensions >= 1], got 01 00 08 01"));
  EXPECT_THAT(message(bytes({0, 0, 7, 1})), HasSubstr("not an IDX file"));
  EXPECT_THAT(message(bytes({0, 0, 8, 2, 0, 0, 0, 1})), HasSubstr("expected 2 extents"));
  EXPECT_THAT(message(kImages.substr(0, kImages.size() - 1)), HasSubstr("truncated: expected 4 bytes after the header, got 3"));
  EXPECT_THAT(message(kImages + "x"), HasSubstr("expected 4 bytes after the header, got more"));
  EXPECT_THAT(message(bytes({0, 0, 8, 1, 0, 0, 0, 0})), HasSubstr("extent of 0"));
  // A header that claims exabytes is refused before anything is allocated.
  EXPECT_THAT(message(bytes({0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})),
              HasSubstr("more than 16 bytes on disk can hold"));
  EXPECT_THAT(message(std::string("\0\0\x08\xFF", 4) + std::string(4 * 255, '\xFF')), HasSubstr("can hold"));
  // A compressed file cut off in its middle.
  write_gzip(path, kImages + std::string(100000, 'x'));
  const std::string whole = testing::read(path);
  EXPECT_THAT(message(whole.substr(0, whole.size() / 2)), HasSubstr("truncated"));
  EXPECT_THAT(error_of([&] { read_idx(folder.path() / "none"); }), HasSubstr("no such file"));
}

TEST(FashionMnist, MissingFilesComeWithAHint) {
  const TemporaryDirectory folder;
  EXPECT_THAT(error_of([&] { make("fashion_mnist", folder.path()); }),
              AllOf(HasSubstr((folder.path() / "train-").string()), HasSubstr("-ubyte] no such file, plain or with .gz"),
                    HasSubstr("apt-get install dataset-fashion-mnist")));
  EXPECT_THAT(error_of([&] { make("fashion_mnist", folder.path() / "no"); }), HasSubstr("no such folder"));
  testing::write(folder.path() / "train-images-idx3-ubyte", kImages);
  testing::write(folder.path() / "train-labels-idx1-ubyte", bytes({0, 0, 8, 1, 0, 0, 0, 1, 3}));
  EXPECT_THAT(error_of([&] { make("fashion_mnist", folder.path()); }), HasSubstr("expected 2 labels"));
  EXPECT_THAT(error_of([&] { make("fashion_mnist", folder.path(), {}, "tran"); }), HasSubstr("did you mean 'train'?"));
}

TEST(Npz, ArraysBecomeFields) {
  const Json& expected = golden()["npz"];
  const DatasetPtr all = make("npz_file", golden_file("mixed.npz"), {{"npz_split_col", "split"}});
  ASSERT_EQ(all->size(), 4);  // the split `train`
  const std::vector<int> train = {0, 1, 3, 5};
  for (std::size_t i = 0; i < train.size(); ++i) {
    const Sample sample = all->get(static_cast<std::int64_t>(i));
    const auto row = [&](const char* name) { return expected[name][train[i]]; };
    EXPECT_THAT(sample.names(), ElementsAre("big", "flags", "floats", "images", "labels", "small", "wide"));
    EXPECT_EQ(sample.at("big").item<int>(), row("big").get<int>());
    EXPECT_EQ(sample.at("small").scalar_type(), c10::kShort);
    EXPECT_EQ(sample.at("wide").item<std::int64_t>(), row("wide").get<std::int64_t>());
    EXPECT_EQ(sample.at("flags").item<bool>(), row("flags").get<bool>());
    EXPECT_EQ(sample.at("images").scalar_type(), c10::kByte);
    EXPECT_EQ(sample.at("images")[3][2].item<int>(), row("images")[3][2].get<int>());
    // Fortran order, float64.
    EXPECT_EQ(sample.at("floats").sizes(), (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(sample.at("floats")[1][0].item<double>(), row("floats")[1][0].get<double>());
  }
  EXPECT_EQ(make("npz_file", golden_file("mixed.npz"), {}, "validation")->get(0).at("labels").item<int>(), 2);
  EXPECT_EQ(make("npz_file", golden_file("mixed.npz"), {}, "val")->size(), 1);
  EXPECT_THAT(error_of([] { make("npz_file", golden_file("mixed.npz"), {}, "dev2"); }),
              HasSubstr("there are: train, validation, test"));
}

TEST(Npz, ColumnsAndRename) {
  const DatasetPtr dataset =
      make("npz_file", golden_file("mixed.npz"), {{"columns", {"floats", "labels"}}, {"rename", {{"floats", "inputs"}}}});
  EXPECT_THAT(dataset->get(0).names(), ElementsAre("inputs", "labels"));
  EXPECT_THAT(error_of([] { make("npz_file", golden_file("mixed.npz"), {{"columns", {"lables"}}}); }),
              HasSubstr("did you mean 'labels'?"));
  EXPECT_THAT(error_of([] { make("npz_file", golden_file("mixed.npz"), {{"column", {"labels"}}}); }),
              HasSubstr("did you mean 'columns'?"));
}

TEST(Npz, SaysWhatIsBroken) {
  const TemporaryDirectory folder;
  const std::string whole = testing::read(golden_file("mixed.npz"));
  const fs::path path = folder.path() / "x.npz";
  testing::write(path, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(error_of([&] { make("npz_file", path); }),
              AllOf(HasSubstr(path.string()), HasSubstr("not a readable .npz archive")));
  // One flipped bit anywhere never passes silently as other data, and never crashes.
  int refused = 0;
  const DatasetPtr good = make("npz_file", golden_file("mixed.npz"));
  for (std::size_t at = 0; at < whole.size(); at += 7) {
    std::string flipped = whole;
    flipped[at] ^= 4;
    testing::write(path, flipped);
    try {
      make("npz_file", path);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
  testing::write(path, "");
  EXPECT_THAT(error_of([&] { make("npz_file", path); }), HasSubstr("not a readable .npz archive"));
  EXPECT_THAT(error_of([&] { make("npz_file", folder.path()); }), HasSubstr("got a folder"));
}

std::string npy(const std::string& dict, const std::string& data) {
  std::string header = dict + std::string(1, '\n');
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() & 255) + static_cast<char>(header.size() >> 8) +
         header + data;
}

TEST(Npy, RefusesHeadersThatDoNotFitTheData) {
  const auto message = [](const std::string& bytes) { return error_of([&] { parse_npy_header(bytes, "f.npz:x"); }); };
  EXPECT_THAT(message("abc"), HasSubstr("magic number"));
  EXPECT_THAT(message(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "12345678")),
              HasSubstr("shape (3), got 8 bytes of data"));
  EXPECT_THAT(message(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "x")),
              HasSubstr("pickled Python objects"));
  EXPECT_THAT(message(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "1234")),
              HasSubstr("structured arrays"));
  EXPECT_THAT(message(npy("{'descr': '<f4', 'shape': (1,), }", "1234")), HasSubstr("no 'fortran_order'"));
  EXPECT_THAT(message(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "1234")),
              HasSubstr("expected numbers in its shape"));
  EXPECT_THAT(message(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 8, 8), }", "1234")),
              HasSubstr("got 4 bytes"));
  EXPECT_EQ(parse_npy_header(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", "12345678"), "x").shape,
            (std::vector<std::int64_t>{1, 2}));
}

TEST(ImageCodec, PixelsEqualPillows) {
  for (const auto& [name, modes] : golden()["pictures"].items()) {
    const bool is_jpeg = name.ends_with(".jpg");
    for (const auto& [mode, expected] : modes.items()) {
      const Image image = decode_image(golden_file(name), mode == "L" ? ImageMode::kGray : ImageMode::kRgb);
      const auto wanted = expected.get<std::vector<int>>();
      ASSERT_EQ(image.pixels.size(), wanted.size()) << name;
      int worst = 0;
      for (std::size_t i = 0; i < wanted.size(); ++i) worst = std::max(worst, std::abs(wanted[i] - image.pixels[i]));
      // Decoders of JPEG may differ by rounding in the inverse transform and the colour conversion.
      EXPECT_LE(worst, is_jpeg ? 2 : 0) << name << " " << mode;
    }
  }
}

TEST(ImageFolder, ClassesAreSortedFoldersAndBrokenFilesAreNamed) {
  const TemporaryDirectory folder;
  const auto place = [&](const char* to) {
    fs::create_directories((folder.path() / to).parent_path());
    fs::copy_file(golden_file("rgb.png"), folder.path() / to);
  };
  place("train/dog/b.png");
  place("train/cat/deep/a.PNG");
  place("train/cat/z.png");
  place("test/cat/t.png");
  testing::write(folder.path() / "train/cat/notes.txt", "no image");
  const DatasetPtr train = make("image_folder", folder.path());
  EXPECT_THAT(train->class_names(), ElementsAre("cat", "dog"));
  ASSERT_EQ(train->size(), 3);
  EXPECT_EQ(train->get(2).at("labels").item<int>(), 1);
  EXPECT_EQ(train->get(0).at("images").sizes(), (std::vector<std::int64_t>{3, 5, 6}));
  EXPECT_EQ(train->get_batch(std::vector<std::int64_t>{0, 2}).at("images").sizes(), (std::vector<std::int64_t>{2, 3, 5, 6}));
  EXPECT_EQ(make("image_folder", folder.path(), {{"mode", "L"}, {"transforms", {{{"name", "resize"}, {"size", {3, 3}}}}}})
                ->get(0)
                .at("images")
                .sizes(),
            (std::vector<std::int64_t>{1, 3, 3}));
  EXPECT_EQ(make("image_folder", folder.path(), {}, "test")->size(), 1);
  EXPECT_THAT(error_of([&] { make("image_folder", folder.path(), {}, "validation"); }), HasSubstr("there are: test, train"));
  EXPECT_THAT(error_of([&] { make("image_folder", folder.path(), {{"mode", "RGBX"}}); }),
              HasSubstr("expected RGB or L, got 'RGBX'"));

  for (const char* name : {"rgb.png", "rgb.jpg"}) {
    const std::string whole = testing::read(golden_file(name));
    testing::write(folder.path() / "train/dog/b.png", whole.substr(0, whole.size() - 40));
    EXPECT_THAT(error_of([&] { train->get(2); }), AllOf(HasSubstr("dog/b.png"), HasSubstr("cannot be decoded"))) << name;
  }
  testing::write(folder.path() / "train/dog/b.png", "GIF89a");
  EXPECT_THAT(error_of([&] { train->get(2); }), HasSubstr("expected a PNG or JPEG image"));
  // A header of 2^31 - 1 by 2^31 - 1 pixels.
  std::string huge = testing::read(golden_file("rgb.png"));
  for (const int at : {16, 20}) huge.replace(at, 4, "\x7f\xff\xff\xff");
  testing::write(folder.path() / "train/dog/b.png", huge);
  EXPECT_THAT(error_of([&] { train->get(2); }), HasSubstr("cannot be decoded"));
  fs::create_directories(folder.path() / "train/empty");
  EXPECT_THAT(error_of([&] { make("image_folder", folder.path()); }), HasSubstr("train/empty"));
}

}  // namespace
}  // namespace oumi
