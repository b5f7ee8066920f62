#include "tests/fuzz/targets.h"

#include <ATen/Functions.h>
#include <unistd.h>

#include <cstdint>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/checkpoint/manifest.h"
#include "oumi/checkpoint/safetensors.h"
#include "oumi/checkpoint/torch_file.h"
#include "oumi/config/training_config.h"
#include "oumi/data/formats/idx.h"
#include "oumi/data/formats/megatron_indexed.h"
#include "oumi/data/registry.h"
#include "oumi/data/split.h"
#include "oumi/data/text/label_masks.h"

namespace oumi::fuzz {
namespace {

namespace fs = std::filesystem;

// --- inputs in memory ---

constexpr const char* kConfig = R"(model: {model_name: m, model_kwargs: {a: [1, 2.5, "x"], b: {c: null}}}
data:
  train:
    datasets:
      - {dataset_name: d, split: "train[:90%]", sample_count: 3}
      - dataset_name: &name e
        dataset_kwargs: {path: *name, flag: yes, "quoted \u00e9": 'it''s'}
  validation: {datasets: [{dataset_name: d}]}
training:
  learning_rate: 1.0e-3
  max_steps: 10
  trainer_type: hf
  # a comment
  run_name: |
    two
    lines
  lr_scheduler_kwargs: {num_cycles: .5}
)";

void parse_config(std::string_view bytes) {
  const TrainingConfig config = load_config_text(std::string(bytes));
  // What was read can be written, and read again to the same.
  const std::string yaml = to_yaml(config);
  if (to_yaml(load_config_text(yaml)) != yaml) throw InternalError("canonical YAML is not a fixed point");
}

void parse_override(std::string_view bytes) {
  static const std::string base = "model: {model_name: m}\ndata: {train: {datasets: [{dataset_name: d}]}}\n";
  load_config_text(base, "config", {std::string(bytes)});
}

void parse_split_text(std::string_view bytes) {
  for (const SplitSlice& slice : parse_split(std::string(bytes), "split")) resolve_slice(slice, 1000);
}

void parse_manifest_text(std::string_view bytes) { parse_manifest(std::string(bytes), "manifest.json"); }

std::vector<std::string> config_seeds() {
  return {kConfig, "model:\n  model_name: m\ndata:\n  train:\n    datasets: [{dataset_name: d}]\n"};
}
std::vector<std::string> override_seeds() {
  return {"training.max_steps=10",
          "data.train.datasets[0].split=test",
          "model.model_kwargs={a: [1, 2], b: \"x\"}",
          "training.lr_scheduler_kwargs.num_cycles=.5",
          "peft.lora_target_modules=[q_proj, v_proj]",
          "training.run_name=null"};
}
std::vector<std::string> split_seeds() { return {"train", "train[:90%]+test[10:20]", "train[-5%:]", "validation[3:]"}; }
std::vector<std::string> manifest_seeds() {
  Manifest manifest;
  manifest.step = 3;
  manifest.files["model.safetensors"] = {.size = 12, .xxh3_128 = std::string(32, 'a')};
  return {to_json_text(Manifest{}), to_json_text(manifest)};
}

// --- inputs that are files ---

// One file in memory-backed storage, written anew for each input.
fs::path scratch(const char* name, std::string_view bytes) {
  static const fs::path folder = [] {
    const fs::path base = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
    const fs::path made = base / cat("oumi-fuzz-", ::getpid());
    fs::create_directories(made);
    std::atexit([] {
      std::error_code ignored;
      fs::remove_all(
          (fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path()) / cat("oumi-fuzz-", ::getpid()),
          ignored);
    });
    return made;
  }();
  const fs::path path = folder / name;
  FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) throw EnvironmentError(path.string(), "cannot be written");
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
  return path;
}

template <class Write>
std::string written(const char* name, Write write) {
  const TemporaryDirectory folder;
  write(folder.path() / name);
  return read_text_file(folder.path() / name);
}

StateDict small_state() {
  return {{"a.weight", at::arange(6, at::kFloat).view({2, 3})},
          {"a.bias", at::ones({3}, at::kBFloat16)},
          {"count", at::full({}, 7, at::kLong)}};
}

void parse_safetensors(std::string_view bytes) { load_safetensors(scratch("model.safetensors", bytes)); }
std::vector<std::string> safetensors_seeds() {
  return {written("m.safetensors", [](const fs::path& path) { save_safetensors(path, small_state()); })};
}

void parse_torch_file(std::string_view bytes) { read_torch_file(scratch("model.pt", bytes)); }
std::vector<std::string> torch_file_seeds() {
  return {written("m.pt", [](const fs::path& path) {
    c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
    for (const auto& [name, tensor] : small_state()) dict.insert(name, tensor);
    dict.insert("epoch", 3);
    dict.insert("name", "run");
    write_torch_file(path, dict);
  })};
}

void parse_idx(std::string_view bytes) { read_idx(scratch("images-idx3-ubyte", bytes)); }
std::vector<std::string> idx_seeds() {
  std::string images("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03", 16), floats("\0\0\x0d\x01\0\0\0\x02", 8);
  for (char i = 0; i < 12; ++i) images.push_back(i);
  floats.append(8, '\x3f');
  return {images, floats};
}

std::string little_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
  return out;
}

std::uint32_t crc32_of(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

// A zip archive of stored (uncompressed) members.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string body, directory;
  for (const auto& [name, bytes] : members) {
    const std::string common = little_endian(20, 2) + little_endian(0, 2) + little_endian(0, 2) + little_endian(0, 4) +
                               little_endian(crc32_of(bytes), 4) + little_endian(bytes.size(), 4) +
                               little_endian(bytes.size(), 4) + little_endian(name.size(), 2) + little_endian(0, 2);
    directory += "PK\x01\x02" + little_endian(20, 2) + common + little_endian(0, 2) + little_endian(0, 2) +
                 little_endian(0, 2) + little_endian(0, 4) + little_endian(body.size(), 4) + name;
    body += "PK\x03\x04" + common + name + bytes;
  }
  const std::string end = "PK\x05\x06" + little_endian(0, 4) + little_endian(members.size(), 2) +
                          little_endian(members.size(), 2) + little_endian(directory.size(), 4) +
                          little_endian(body.size(), 4) + little_endian(0, 2);
  return body + directory + end;
}

std::string npy_of(const std::string& header_dict, const std::string& data) {
  std::string header = header_dict;
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  return std::string("\x93NUMPY\x01\0", 8) + little_endian(header.size(), 2) + header + data;
}

// Reads the file through its registered dataset, and a sample of it.
void parse_dataset(const char* dataset, const char* file, std::string_view bytes, bool stream) {
  DatasetRequest request;
  request.name = dataset;
  request.path = scratch(file, bytes);
  request.stream = stream;
  const DatasetPtr made = make_dataset(request);
  if (made->is_map_style()) {
    if (made->size() > 0) made->get(made->size() - 1);
  } else {
    made->set_epoch(0);
    for (int i = 0; i < 100 && made->next(); ++i) {
    }
  }
}

void parse_npz(std::string_view bytes) { parse_dataset("npz_file", "arrays.npz", bytes, false); }
std::vector<std::string> npz_seeds() {
  const std::string x = npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", std::string(24, '\x3f'));
  const std::string y = npy_of("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", std::string(16, '\x01'));
  const std::string fortran = npy_of("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2), }", std::string(8, '\x02'));
  return {zip_of({{"x.npy", x}, {"y.npy", y}}), zip_of({{"f.npy", fortran}})};
}

void parse_csv(std::string_view bytes) { parse_dataset("csv", "table.csv", bytes, false); }
void parse_csv_stream(std::string_view bytes) { parse_dataset("csv", "table.csv", bytes, true); }
std::vector<std::string> csv_seeds() {
  return {"a,b,label\n1,2.5,0\n3,-4e2,1\n5,7,2\n", "\"a, b\",\"quote \"\" inside\"\n1,2\n"};
}

void parse_jsonl(std::string_view bytes) { parse_dataset("jsonl", "table.jsonl", bytes, false); }
void parse_jsonl_stream(std::string_view bytes) { parse_dataset("jsonl", "table.jsonl", bytes, true); }
std::vector<std::string> jsonl_seeds() {
  return {"{\"input_ids\": [1, 2, 3], \"labels\": [1, 2, 3]}\n{\"input_ids\": [4], \"labels\": [5]}\n",
          "{\"x\": 1.5, \"label\": 1}\n"};
}

// The index of a fixed .bin.
const TokenIds kMegatronTokens = {1, 2, 3, 4, 5, 6};
void parse_megatron_index(std::string_view bytes) {
  const fs::path idx = scratch("tokens.idx", bytes);
  scratch("tokens.bin", std::string_view(reinterpret_cast<const char*>(kMegatronTokens.data()),
                                         kMegatronTokens.size() * sizeof(std::int32_t)));
  const MegatronIndexed file(idx);
  for (std::int64_t d = 0; d < file.documents(); ++d) file.read(file.begin_of(d), file.begin_of(d + 1));
}
std::vector<std::string> megatron_index_seeds() {
  return {written("seed.idx", [](const fs::path& path) {
    MegatronIndexedWriter writer(path, MegatronDtype::kInt32);
    writer.add_document(std::span(kMegatronTokens).first(2));
    writer.add_document(std::span(kMegatronTokens).subspan(2));
    writer.close();
  })};
}

constexpr Target kTargets[] = {
    {"config", parse_config, config_seeds},
    {"overrides", parse_override, override_seeds},
    {"split", parse_split_text, split_seeds},
    {"manifest", parse_manifest_text, manifest_seeds},
    {"safetensors", parse_safetensors, safetensors_seeds},
    {"torch_file", parse_torch_file, torch_file_seeds},
    {"idx", parse_idx, idx_seeds},
    {"npz", parse_npz, npz_seeds},
    {"csv", parse_csv, csv_seeds},
    {"csv_stream", parse_csv_stream, csv_seeds},
    {"jsonl", parse_jsonl, jsonl_seeds},
    {"jsonl_stream", parse_jsonl_stream, jsonl_seeds},
    {"megatron_index", parse_megatron_index, megatron_index_seeds},
};

}  // namespace

std::span<const Target> targets() { return kTargets; }

const Target* find_target(std::string_view name) {
  for (const Target& target : kTargets) {
    if (name == target.name) return &target;
  }
  return nullptr;
}

std::string run(const Target& target, std::string_view bytes) {
  try {
    target.parse(bytes);
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::kBug) return "";
    return std::string("InternalError: ") + error.what();
  } catch (const std::exception& error) {
    return std::string(typeid(error).name()) + ": " + error.what();
  } catch (...) {
    return "something that is no std::exception";
  }
  return "";
}

}  // namespace oumi::fuzz
