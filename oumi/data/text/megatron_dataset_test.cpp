// Megatron's indexed datasets: against files that Megatron-Core wrote, and what is said about broken ones.
#include "oumi/data/text/megatron_dataset.h"

#include <cstring>

#include "oumi/base/files.h"
#include "oumi/data/formats/megatron_indexed.h"
#include "oumi/data/text/testing.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::error_of;
using testing::golden_folder;
using ::testing::HasSubstr;

using Documents = std::vector<TokenIds>;

const Json& golden_documents() {
  static const Json json = read_json_file(golden_folder() / "megatron_indexed.json")["documents"];
  return json;
}

class Megatron : public testing::TextDataTest {
 protected:
  fs::path write_documents(const std::string& name, MegatronDtype dtype, const Documents& documents) {
    MegatronIndexedWriter writer(folder.path() / name, dtype);
    for (const TokenIds& document : documents) writer.add_document(document);
    writer.close();
    return folder.path() / name;
  }
  // All rows of the dataset.
  Documents rows(const fs::path& path, Json kwargs = Json::object()) {
    const DatasetPtr dataset = make("megatron_indexed", path, std::move(kwargs));
    Documents all;
    for (std::int64_t i = 0; i < dataset->size(); ++i) {
      all.push_back(ids(*dataset, i));
      EXPECT_EQ(ids(*dataset, i, "labels"), all.back());
      EXPECT_EQ(dataset->sample_length(i), static_cast<std::int64_t>(all.back().size()));
      EXPECT_EQ(dataset->token_counts(i)->tokens, static_cast<std::int64_t>(all.back().size()));
    }
    return all;
  }
};

TEST_F(Megatron, ReadsEveryDtypeOfMegatrons) {
  for (const auto& [name, json] : golden_documents().items()) {
    const auto documents = json.get<Documents>();
    const MegatronIndexed file(golden_folder() / "megatron_indexed" / name);
    ASSERT_EQ(file.documents(), static_cast<std::int64_t>(documents.size())) << name;
    for (std::int64_t d = 0; d < file.documents(); ++d)
      EXPECT_EQ(file.read(file.begin_of(d), file.begin_of(d + 1)), documents[static_cast<std::size_t>(d)]) << name << d;
  }
  EXPECT_EQ(golden_documents().size(), 8u);
}

TEST_F(Megatron, WritesMegatronsBytes) {
  EXPECT_EQ(megatron_dtype_for(65499), MegatronDtype::kUint16);
  EXPECT_EQ(megatron_dtype_for(65500), MegatronDtype::kInt32);
  for (const auto& [name, dtype] : {std::pair("uint16", MegatronDtype::kUint16), std::pair("int32", MegatronDtype::kInt32)}) {
    write_documents(name, dtype, golden_documents()[name].get<Documents>());
    for (const char* extension : {".bin", ".idx"}) {
      EXPECT_EQ(read_text_file(folder.path() / (std::string(name) + extension)),
                read_text_file(golden_folder() / "megatron_indexed" / (std::string(name) + extension)));
    }
  }
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 4u);  // no temporary one
}

TEST_F(Megatron, DocumentsAreSamples) {
  context.tokenizer = nullptr;
  const fs::path uint16 = golden_folder() / "megatron_indexed" / "uint16";
  const Documents whole = {{5, 6, 7, 1}, {65499, 1}, {9, 8, 7, 6, 5, 4, 3, 2, 1}, {0}};  // the empty one is none
  EXPECT_EQ(rows(uint16), whole);
  EXPECT_EQ(rows(uint16.string() + ".bin"), whole);
  EXPECT_EQ(rows(uint16.string() + ".idx"), whole);
  context.max_length = 3;
  EXPECT_EQ(rows(uint16), (Documents{{5, 6, 7}, {65499, 1}, {9, 8, 7}, {0}}));
  EXPECT_EQ(make("megatron_indexed", uint16)->token_counts(2)->dropped, 6);
}

TEST_F(Megatron, JoinsAndCutsDocuments) {
  const fs::path uint16 = golden_folder() / "megatron_indexed" / "uint16";
  EXPECT_EQ(rows(uint16, {{"seq_length", 5}}), (Documents{{5, 6, 7, 1, 65499}, {1, 9, 8, 7, 6}, {5, 4, 3, 2, 1}}));
  EXPECT_EQ(rows(uint16, {{"seq_length", 5}, {"skip_last", false}}).back(), (TokenIds{0}));
  EXPECT_EQ(make("megatron_indexed", uint16, {{"seq_length", 5}}, /*stream=*/true)->length(), 3);

  // With a token between documents: every cut of what joining in memory gives.
  const std::int32_t end = *context.tokenizer->eos_id();
  const Documents documents = {{}, {1, 2}, {}, {}, {3, 4, 5, 6, 7}, {8}, {}};
  const fs::path path = write_documents("joined", MegatronDtype::kInt64, documents);
  TokenIds all;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    if (d > 0) all.push_back(end);
    all.insert(all.end(), documents[d].begin(), documents[d].end());
  }
  for (std::int64_t length = 1; length <= 16; ++length) {
    Documents expected;
    for (std::size_t begin = 0; begin < all.size(); begin += static_cast<std::size_t>(length)) {
      expected.emplace_back(
          all.begin() + static_cast<std::ptrdiff_t>(begin),
          all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + static_cast<std::size_t>(length))));
    }
    EXPECT_EQ(rows(path, {{"seq_length", length}, {"append_concat_token", true}, {"skip_last", false}}), expected) << length;
  }
}

TEST_F(Megatron, RefusesWhatCantBeRead) {
  const auto error = [&](const fs::path& path, Json kwargs = Json::object()) { return error_of([&] { rows(path, kwargs); }); };
  EXPECT_THAT(error(folder.path() / "none"), AllOf(HasSubstr("none.idx"), HasSubstr("cannot be read")));
  EXPECT_THAT(error({}), HasSubstr("dataset_path"));
  EXPECT_THAT(error(write_documents("empty", MegatronDtype::kInt32, {{}})), HasSubstr("has no samples"));
  const fs::path one = write_documents("one", MegatronDtype::kInt32, {{1, 2, 3}, {4}});
  EXPECT_THAT(error(one, {{"seq_length", 5}}), HasSubstr("expected at least one row of tokens"));
  EXPECT_THAT(error(one, {{"seq_length", 0}}), HasSubstr("seq_length"));
  EXPECT_THAT(error(one, {{"skip_last", true}}), HasSubstr("expected seq_length beside it"));
  EXPECT_THAT(error(one, {{"seq_lenght", 2}}), HasSubstr("seq_lenght"));
  context.tokenizer = nullptr;
  EXPECT_THAT(error(one, {{"seq_length", 2}, {"append_concat_token", true}}), HasSubstr("expected a tokenizer"));

  fs::remove(folder.path() / "one.bin");
  EXPECT_THAT(error(one), AllOf(HasSubstr("one.bin"), HasSubstr("cannot be read")));
  write_documents("one", MegatronDtype::kInt32, {{1, 2, 3}});
  fs::copy_file(golden_folder() / "megatron_indexed" / "int32.bin", folder.path() / "one.bin",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error(one), AllOf(HasSubstr("one.bin"), HasSubstr("expected 12 bytes as one.idx says, got 64")));
  write_documents("one", MegatronDtype::kInt64, {{1, 2, 3}});
  testing::write(folder.path() / "one.bin", std::string(23, '\xff') + "x");
  EXPECT_THAT(error(one), AllOf(HasSubstr("one.bin"), HasSubstr("token 0: expected a token id, got -1")));

  MegatronIndexedWriter narrow(folder.path() / "narrow", MegatronDtype::kUint16);
  EXPECT_THAT(error_of([&] { narrow.add_document(TokenIds{1, 65536}); }),
              AllOf(HasSubstr("document 0, token 1"), HasSubstr("got 65536")));
  EXPECT_THAT(error_of([&] { narrow.add_document(TokenIds{-1}); }), HasSubstr("got -1"));
}

// Cut anywhere, or with any byte other than it was, the index is refused: nothing of it is unchecked. Lengths and offsets hold
// each other; a document's bound alone may move between its neighbours.
TEST_F(Megatron, RefusesADamagedIndex) {
  const fs::path path = write_documents("index", MegatronDtype::kInt32, {{1, 2, 3}, {4, 5}, {6}});
  const fs::path idx = folder.path() / "index.idx";
  const std::string good = read_text_file(idx);
  const auto error = [&](const std::string& bytes) {
    testing::write(idx, bytes);
    return error_of([&] { MegatronIndexed file(path); });
  };
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_THAT(error(good.substr(0, size)), HasSubstr("index.idx]")) << size;
  EXPECT_THAT(error(good + "x"), HasSubstr("it is cut, or longer"));
  EXPECT_THAT(error(good + std::string(3, '\0')), HasSubstr("multimodal"));
  const std::size_t bounds_begin = good.size() - 4 * sizeof(std::int64_t);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      const std::size_t bound = (i - bounds_begin) / sizeof(std::int64_t);
      if (i >= bounds_begin && (bound == 1 || bound == 2) && (i - bounds_begin) % sizeof(std::int64_t) == 0 && change == 1)
        continue;
      EXPECT_THAT(error(bad), HasSubstr("index.")) << i << ' ' << change;
    }
  }
  std::string huge = good;
  const std::uint64_t count = ~std::uint64_t{0} / 12 + 1;
  std::memcpy(huge.data() + 18, &count, sizeof count);
  EXPECT_THAT(error(huge), HasSubstr("it is cut"));
}

}  // namespace
}  // namespace oumi
