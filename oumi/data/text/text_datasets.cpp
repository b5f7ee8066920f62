#include "oumi/data/text/text_datasets.h"

#include <algorithm>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"
#include "oumi/data/formats/tabular.h"
#include "oumi/data/text/conversation_rows.h"
#include "oumi/data/text/documents.h"
#include "oumi/data/text/preferences.h"
#include "oumi/data/text/token_dataset.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRowsAtATime = 2048;
constexpr const char* kCacheVersion = "tokens 1";

constexpr const char* kAlpacaNames[] = {"yahma/alpaca-cleaned", "tatsu-lab/alpaca", "uiuc-convai/CoALM-IT"};
constexpr const char* kMessagesNames[] = {"HuggingFaceH4/ultrachat_200k", "allenai/tulu-3-sft-mixture"};
constexpr const char* kShareGptNames[] = {"Magpie-Align/Llama-3-Magpie-Pro-1M-v0.1", "Magpie-Align/Magpie-Pro-300K-Filtered"};
constexpr const char* kCorpora[] = {"HuggingFaceFW/fineweb-edu",
                                    "allenai/c4",
                                    "allenai/dolma",
                                    "tiiuae/falcon-refinedweb",
                                    "EleutherAI/pile",
                                    "togethercomputer/RedPajama-Data-1T",
                                    "togethercomputer/RedPajama-Data-V2",
                                    "cerebras/SlimPajama-627B",
                                    "gmongaras/SlimPajama-627B_Reupload",
                                    "bigcode/starcoderdata",
                                    "bigcode/the-stack",
                                    "roneneldan/TinyStories",
                                    "nampdn-ai/tiny-textbooks",
                                    "wikimedia/wikipedia",
                                    "Salesforce/wikitext",
                                    "PleIAs/YouTube-Commons"};

constexpr const char* kTokenNames[] = {"pretokenized", "megatron_indexed"};  // tokens already

// What a dataset's rows are made from: files, or a few rows of its own.
struct Rows {
  RowSource source;
  std::vector<Json> generated;
  std::string fingerprint;

  std::unique_ptr<RowReader> open() const;
};

class GeneratedRows : public RowReader {
 public:
  explicit GeneratedRows(std::vector<Json> rows) : rows_(std::move(rows)) {}
  bool next(TextRow& row) override {
    if (at_ >= rows_.size()) return false;
    row = TextRow(std::make_shared<const std::string>("generated"), static_cast<std::int64_t>(at_) + 1, "row");
    row.value = rows_[at_++];
    return true;
  }
  Json position() const override { return at_; }
  void seek(const Json& position) override { at_ = position.get<std::size_t>(); }

 private:
  std::vector<Json> rows_;
  std::size_t at_ = 0;
};

std::unique_ptr<RowReader> Rows::open() const {
  if (generated.empty()) return open_rows(source);
  return std::make_unique<GeneratedRows>(generated);
}

Rows rows_of(const DatasetRequest& request, const RowSourceOptions& options = {}) {
  Rows rows{row_source(request, options), {}, {}};
  rows.fingerprint = files_fingerprint(rows.source.files);
  return rows;
}

Rows generated_rows(std::vector<Json> rows) { return {{}, std::move(rows), "generated"}; }

std::string display_name(const DatasetRequest& request) { return cat(request.name, "/", request.split); }

// Encodes through the cache. `fingerprint` is of all but the rows.
DatasetPtr cached_dataset(const DatasetRequest& request, const Rows& rows, const std::string& fingerprint,
                          std::function<void(RowReader&, TokenFileWriter&)> write) {
  const std::string parts = cat(kCacheVersion, '|', rows.fingerprint, '|', fingerprint);
  const std::string key = hash_bytes(parts.data(), parts.size());
  auto tokens = cached_tokens(
      {.key = key,
       .what = display_name(request),
       .write =
           [&](TokenFileWriter& writer) {
             const auto reader = rows.open();
             write(*reader, writer);
             if (writer.rows() == 0)
               throw UserError(request.key, "'" + display_name(request) +
                                                "' has no samples: nothing was read, or less than one row of tokens");
           },
       .notice = request.text.notice});
  return std::make_shared<TokenDataset>(std::move(tokens), display_name(request), key);
}

ChatEncodeOptions chat_options(const Kwargs& kwargs) {
  ChatEncodeOptions options;
  const std::string task = kwargs.get<std::string>("task", "auto");
  if (task != "auto" && task != "sft" && task != "generation")
    throw UserError(kwargs.origin() + ".task", "expected auto, sft or generation, got '" + task + "'");
  options.add_generation_prompt = task == "generation";
  options.assistant_only = kwargs.get<bool>("assistant_only", false);
  options.response_template = kwargs.get<std::string>("response_template", "");
  options.instruction_template = kwargs.get<std::string>("instruction_template", "");
  // Of Python's doing; samples are always tensors here.
  kwargs.find("return_tensors");
  kwargs.find("text_col");
  kwargs.find("transform_num_workers");
  if (kwargs.get<bool>("return_conversations", false)) {
    throw UserError(kwargs.origin() + ".return_conversations",
                    "expected false: conversations are encoded here, not handed to a collator");
  }
  return options;
}

// `mapping` says how rows became conversations, for the cache's key.
DatasetPtr chat_dataset(const DatasetRequest& request, const Rows& rows, const ConversationOf& conversation_of,
                        const std::string& mapping) {
  const ChatEncoder encoder(request.text, chat_options(request.kwargs), request.key);
  request.kwargs.check_all_read();  // before the work
  return cached_dataset(request, rows, encoder.fingerprint() + "|" + mapping, [&](RowReader& reader, TokenFileWriter& writer) {
    std::vector<TextRow> batch;
    const auto encode = [&] {
      for (EncodedRow& row : encoder.encode(batch, conversation_of)) writer.add(std::move(row));
      batch.clear();
    };
    for (TextRow row; reader.next(row);) {
      batch.push_back(std::move(row));
      if (batch.size() == kRowsAtATime) encode();
    }
    encode();
  });
}

DatasetPtr make_text_sft(const DatasetRequest& request) {
  const Rows rows = rows_of(request);
  std::string format = request.kwargs.get<std::string>("format", "");
  if (!format.empty() && format != "oumi" && format != "alpaca" && format != "conversations") {
    throw UserError(request.kwargs.origin() + ".format", "expected oumi, conversations or alpaca, got '" + format + "'");
  }
  if (format.empty()) {
    TextRow first;
    if (!rows.open()->next(first)) throw UserError(rows.source.files.front().string(), "expected samples, got none");
    format = detect_text_sft_format(first.json(), first.origin());
  }
  return chat_dataset(request, rows, text_sft_rows(format), "text_sft " + format);
}

DatasetPtr make_alpaca(const DatasetRequest& request) {
  const AlpacaRowOptions options{.include_system_prompt = request.kwargs.get<bool>("include_system_prompt", true)};
  return chat_dataset(request, rows_of(request), alpaca_rows(options), cat("alpaca ", options.include_system_prompt));
}

// A request whose hf_dataset_path may stand for dataset_path where it is a local one.
DatasetRequest with_local_path(const DatasetRequest& request) {
  DatasetRequest local = request;
  const std::string path = request.kwargs.get<std::string>("hf_dataset_path", "");
  if (!local.path && !path.empty() && fs::exists(path)) local.path = path;
  return local;
}

DatasetPtr make_prompt_response(const DatasetRequest& request, PromptResponseColumns columns) {
  columns.prompt = request.kwargs.get<std::string>("prompt_column", columns.prompt);
  columns.response = request.kwargs.get<std::string>("response_column", columns.response);
  return chat_dataset(request, rows_of(with_local_path(request)), prompt_response_rows(columns),
                      cat("prompt ", Json(columns.prompt).dump(), Json(columns.response).dump(), columns.empty_if_missing));
}

DatasetPtr make_messages(const DatasetRequest& request, MessagesColumn column) {
  column.column = request.kwargs.get<std::string>("messages_column", column.column);
  column.exclude_final_assistant_message = request.kwargs.get<bool>("exclude_final_assistant_message", false);
  return chat_dataset(
      request, rows_of(with_local_path(request)), messages_rows(column),
      cat("messages ", Json(column.column).dump(), column.exclude_final_assistant_message, column.user_and_assistant_only));
}

DatasetPtr make_dolly(const DatasetRequest& request) {
  const DollyRowOptions options{.use_new_fields = request.kwargs.get<bool>("use_new_fields", true)};
  return chat_dataset(request, rows_of(request), dolly_rows(options), cat("dolly ", options.use_new_fields));
}

std::vector<Json> numbered_rows(const DatasetRequest& request, std::int64_t fallback,
                                const std::function<Json(std::int64_t)>& row) {
  const auto size = request.kwargs.get<std::int64_t>("dataset_size", fallback);
  if (size < 1) throw UserError(request.kwargs.origin() + ".dataset_size", cat("expected at least 1, got ", size));
  std::vector<Json> rows;
  for (std::int64_t i = 0; i < size; ++i) rows.push_back(row(i));
  return rows;
}

DatasetPtr make_debug_sft(const DatasetRequest& request) {
  const auto rows = numbered_rows(request, 5, [](std::int64_t i) {
    return Json{{"user_message", cat("Hello, how are you? (Document number ", i, ")")},
                {"assistant_message", cat("I'm fine, thank you! (Document number ", i, ")")}};
  });
  return chat_dataset(request, generated_rows(rows),
                      prompt_response_rows({.prompt = "user_message", .response = "assistant_message"}),
                      cat("debug ", rows.size()));
}

const Tokenizer& require_tokenizer(const DatasetRequest& request) {
  if (request.text.tokenizer == nullptr) {
    throw UserError(request.key + ".dataset_name", "'" + request.name + "' needs a tokenizer, and this run has none",
                    "set model.tokenizer_name to a folder with tokenizer.json, or use dataset_name: pretokenized");
  }
  return *request.text.tokenizer;
}

PretrainingOptions pretraining_options(const DatasetRequest& request) {
  const Kwargs& kwargs = request.kwargs;
  PretrainingOptions options;
  options.seq_length = kwargs.get<std::int64_t>("seq_length", request.text.max_length.value_or(0));
  if (options.seq_length < 1)
    throw UserError(kwargs.origin() + ".seq_length", cat("expected a row's length in tokens, got ", options.seq_length),
                    "set it, or model.model_max_length");
  options.dataset_text_field = kwargs.get<std::string>("dataset_text_field", "text");
  options.append_concat_token = kwargs.get<bool>("append_concat_token", true);
  options.add_special_tokens = kwargs.get<bool>("add_special_tokens", true);
  options.skip_last = kwargs.get<bool>("skip_last", true);
  if (options.append_concat_token && !require_tokenizer(request).eos_id()) {
    throw UserError(kwargs.origin() + ".append_concat_token", "the tokenizer has no end-of-text token to put between documents",
                    "set it to false, or eos_token in model.tokenizer_kwargs");
  }
  return options;
}

RowSourceOptions document_options(const Kwargs& kwargs) {
  const std::string document = kwargs.get<std::string>("document", "line");
  if (document != "line" && document != "file")
    throw UserError(kwargs.origin() + ".document", "expected line or file, got '" + document + "'");
  return {.plain_text = true, .whole_files = document == "file"};
}

DatasetPtr pretraining_dataset(const DatasetRequest& request, const Rows& rows) {
  const Tokenizer& tokenizer = require_tokenizer(request);
  const PretrainingOptions options = pretraining_options(request);
  request.kwargs.check_all_read();
  const bool stream = request.stream && rows.generated.empty();
  if (stream && !request.text.needs_length) return stream_chunks(rows.source, request.text, options, display_name(request));
  if (stream && request.text.notice)
    request.text.notice(cat(display_name(request), ": encoded first, for its length: training.max_steps is not set"));
  const std::string fingerprint = cat("chunks 1|", tokenizer.fingerprint(), '|', options.seq_length, '|',
                                      options.append_concat_token, options.add_special_tokens, options.skip_last, '|',
                                      options.dataset_text_field, '|', static_cast<int>(rows.source.format));
  return cached_dataset(request, rows, fingerprint, [&](RowReader& reader, TokenFileWriter& writer) {
    write_chunks(reader, request.text, options, writer);
  });
}

DatasetPtr make_pretraining(const DatasetRequest& request) {
  const RowSourceOptions documents = document_options(request.kwargs);
  return pretraining_dataset(request, rows_of(request, documents));
}

DatasetPtr make_debug_pretraining(const DatasetRequest& request) {
  return pretraining_dataset(request, generated_rows(numbered_rows(request, 1000, [](std::int64_t i) {
                               return Json{{"text", cat("This is document number ", i, ".")}};
                             })));
}

// Each document a sample, or with seq_length joined and cut as the pretraining datasets are.
DatasetPtr make_text(const DatasetRequest& request) {
  if (request.kwargs.contains("seq_length")) return make_pretraining(request);
  const Tokenizer& tokenizer = require_tokenizer(request);
  const Rows rows = rows_of(request, document_options(request.kwargs));
  const std::string column = request.kwargs.get<std::string>("dataset_text_field", "text");
  const DocumentEncodeOptions options{.add_special_tokens = request.kwargs.get<bool>("add_special_tokens", true),
                                      .max_length = request.text.max_length};
  request.kwargs.check_all_read();
  const std::string fingerprint =
      cat("documents 2|", tokenizer.fingerprint(), '|', tokenizer.truncation_side() == TruncationSide::kLeft, column, '|',
          options.add_special_tokens, options.max_length.value_or(0), '|', static_cast<int>(rows.source.format));
  return cached_dataset(request, rows, fingerprint, [&](RowReader& reader, TokenFileWriter& writer) {
    std::vector<TextRow> batch;
    const auto encode = [&] {
      for (EncodedRow& row : encode_documents(batch, column, tokenizer, options)) writer.add(std::move(row));
      batch.clear();
    };
    for (TextRow row; reader.next(row);) {
      batch.push_back(std::move(row));
      if (batch.size() == kRowsAtATime) encode();
    }
    encode();
  });
}

std::vector<TextRow> all_rows(const Rows& rows) {
  std::vector<TextRow> all;
  const auto reader = rows.open();
  for (TextRow row; reader->next(row);) all.push_back(std::move(row));
  return all;
}

DatasetPtr make_dpo(const DatasetRequest& request) {
  require_tokenizer(request);
  return dpo_dataset(all_rows(rows_of(request)), request.text, request.key, display_name(request));
}

DatasetPtr make_kto(const DatasetRequest& request) {
  require_tokenizer(request);
  return kto_dataset(all_rows(rows_of(request)), request.text, request.key, display_name(request));
}

DatasetPtr make_debug_dpo(const DatasetRequest& request) {
  require_tokenizer(request);
  return dpo_dataset(
      all_rows(generated_rows(numbered_rows(request, 5,
                                            [](std::int64_t i) {
                                              return Json{{"prompt", cat("Hello, how are you? (Document number ", i, ")")},
                                                          {"chosen", cat("I'm fine, thank you! (Document number ", i, ")")},
                                                          {"rejected", cat("fine (Document number ", i, ")")}};
                                            }))),
      request.text, request.key, display_name(request));
}

DatasetPtr make_debug_kto(const DatasetRequest& request) {
  require_tokenizer(request);
  return kto_dataset(
      all_rows(generated_rows(numbered_rows(request, 5,
                                            [](std::int64_t i) {
                                              return Json{{"prompt", cat("Hello, how are you? (Document number ", i, ")")},
                                                          {"completion", cat("I'm fine, thank you! (Document number ", i, ")")},
                                                          {"label", i % 2 == 0}};
                                            }))),
      request.text, request.key, display_name(request));
}

std::vector<std::string>& chat_names() {
  static auto* const names = new std::vector<std::string>;
  return *names;
}
std::vector<std::string>& preference_names() {
  static auto* const names = new std::vector<std::string>;
  return *names;
}

template <class Names>
bool contains(const Names& names, const std::string& name) {
  const std::string lower = to_lower(name);
  return std::any_of(std::begin(names), std::end(names), [&](const std::string& known) { return to_lower(known) == lower; });
}

}  // namespace

void register_text_datasets(const std::function<void(const std::string&, DatasetFactory)>& add) {
  const auto text = [&](const std::string& name, DatasetFactory factory) {
    chat_names().push_back(name);
    add(name, std::move(factory));
  };
  const auto preferences = [&](const std::string& name, DatasetFactory factory) {
    preference_names().push_back(name);
    text(name, std::move(factory));
  };
  text("text_sft", make_text_sft);
  text("text_sft_jsonl", make_text_sft);
  for (const char* name : kAlpacaNames) text(name, make_alpaca);
  text("PromptResponseDataset", [](const DatasetRequest& request) { return make_prompt_response(request, {}); });
  text("O1-OPEN/OpenO1-SFT", [](const DatasetRequest& request) { return make_prompt_response(request, {}); });
  text("argilla/magpie-ultra-v0.1", [](const DatasetRequest& request) {
    return make_prompt_response(request, {.prompt = "instruction", .response = "response", .empty_if_missing = true});
  });
  text("CohereForAI/aya_dataset", [](const DatasetRequest& request) {
    return make_prompt_response(request, {.prompt = "inputs", .response = "targets", .empty_if_missing = true});
  });
  text("HuggingFaceDataset",
       [](const DatasetRequest& request) { return make_messages(request, {.user_and_assistant_only = true}); });
  for (const char* name : kMessagesNames) text(name, [](const DatasetRequest& request) { return make_messages(request, {}); });
  text("allenai/WildChat-1M", [](const DatasetRequest& request) { return make_messages(request, {.column = "conversation"}); });
  for (const char* name : kShareGptNames)
    text(name, [](const DatasetRequest& request) {
      return chat_dataset(request, rows_of(request), sharegpt_rows("conversations"), "sharegpt");
    });
  text("argilla/databricks-dolly-15k-curated-en", make_dolly);
  text("debug_sft", make_debug_sft);
  text("text", make_text);
  text("pretraining", make_pretraining);
  for (const char* name : kCorpora) text(name, make_pretraining);
  text("debug_pretraining", make_debug_pretraining);
  for (const char* name : {"text_dpo", "mlabonne/orpo-dpo-mix-40k"}) preferences(name, make_dpo);
  for (const char* name : {"text_kto", "trl-lib/kto-mix-14k"}) preferences(name, make_kto);
  preferences("debug_dpo", make_debug_dpo);
  preferences("debug_kto", make_debug_kto);
}

DatasetPtr complete_tokens(DatasetPtr dataset, const TextContext& context) {
  const auto max_length = context.max_length;
  return change_samples(
      std::move(dataset),
      [max_length](Sample sample) {
        const Tensor* ids = sample.find("input_ids");
        if (ids == nullptr)
          throw UserError("pretokenized", "expected a column 'input_ids', got [" + join(sample.names(), ", ") + "]",
                          "rename it by dataset_kwargs.rename: {old: input_ids}");
        TokenIds tokens = token_field(sample, "input_ids", "pretokenized");
        TokenIds labels = sample.contains("labels") ? token_field(sample, "labels", "pretokenized") : tokens;
        if (sample.contains("attention_mask") && !sample.contains("labels")) {
          const TokenIds mask = token_field(sample, "attention_mask", "pretokenized");
          for (std::size_t i = 0; i < std::min(mask.size(), labels.size()); ++i) {
            if (mask[i] == 0) labels[i] = kIgnoredLabel;
          }
        }
        const Sample whole = token_sample(tokens, labels);
        Sample result;
        result.set("input_ids", whole.at("input_ids"));
        result.set("attention_mask",
                   sample.contains("attention_mask") ? sample.at("attention_mask").to(c10::kLong) : whole.at("attention_mask"));
        result.set("labels", whole.at("labels"));
        for (const auto& [name, value] : sample) {
          if (!result.contains(name)) result.set(name, value);
        }
        const auto length = static_cast<std::int64_t>(tokens.size());
        for (auto& [name, value] : result) {
          if (value.dim() != 1) continue;
          if (value.size(0) != length)
            throw UserError("pretokenized",
                            cat("column '", name, "': expected ", length, " values as in input_ids, got ", value.size(0)));
          if (max_length && length > *max_length) value = value.narrow(0, 0, *max_length);
        }
        return result;
      },
      cat("tokens cut at ", max_length.value_or(0)));
}

DatasetPtr make_unnamed_text_dataset(const DatasetRequest& request) {
  const Rows rows = rows_of(request);
  TextRow first;
  if (!rows.open()->next(first)) throw UserError(rows.source.files.front().string(), "expected samples, got none");
  const Json row = first.json();
  if (row.is_object() && row.contains("input_ids")) return complete_tokens(make_pretokenized_dataset(request), request.text);
  return make_text_sft(request);
}

bool is_text_dataset(const std::string& name) {
  const std::vector<std::string> known = registered_datasets();  // which fills the names
  return contains(chat_names(), name) || contains(kTokenNames, name) || !contains(known, name);
}

bool is_pretraining_dataset(const std::string& name) {
  const std::string lower = to_lower(name);
  return lower == "pretraining" || lower == "debug_pretraining" || contains(kCorpora, name);
}

bool needs_tokenizer(const std::string& name) {
  registered_datasets();
  return contains(chat_names(), name);
}

bool is_preference_dataset(const std::string& name) {
  registered_datasets();
  return contains(preference_names(), name);
}

}  // namespace oumi
