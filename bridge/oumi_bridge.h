/* The C ABI of liboumi_bridge: HF's `tokenizers` and `minijinja` for oumi/text. src/lib.rs implements it.
 *
 * Memory. OumiBytes are borrowed for the call. OumiBuffer and OumiEncodings are made by the bridge and given back once with the
 * matching release function, whatever the status was; releasing a zeroed one does nothing. Handles are freed once by their own
 * function. Threads. A handle may be used by several threads at once, except in the functions that take it as `mutable`.
 * Errors. A function that returns a status never unwinds; when it isn't OUMI_BRIDGE_OK, `out` holds the message in UTF-8.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define OUMI_BRIDGE_ABI 1

enum {
  OUMI_BRIDGE_OK = 0,
  OUMI_BRIDGE_INPUT = 1,  /* what was passed in is at fault */
  OUMI_BRIDGE_BUG = 2,    /* a panic was caught */
  OUMI_BRIDGE_RAISED = 3, /* a template called raise_exception */
};

typedef struct {
  const uint8_t* data;
  size_t size;
} OumiBytes;

typedef struct {
  uint8_t* data;
  size_t size, capacity;
} OumiBuffer;

/* Token ids of `count` texts one after the other: text i owns tokens [ends[i-1], ends[i]). `offsets` (two per token, in bytes
 * of the text) and `special` are null unless asked for. */
typedef struct {
  const uint32_t* ids;
  const uint8_t* special;
  const size_t* offsets;
  const size_t* ends;
  size_t count, tokens;
  void* owner;
} OumiEncodings;

typedef struct OumiTokenizerHandle OumiTokenizerHandle;
typedef struct OumiTemplateHandle OumiTemplateHandle;

#ifdef __cplusplus
extern "C" {
#endif

uint32_t oumi_bridge_abi(void);
void oumi_bridge_release(OumiBuffer buffer);

/* `json` is a tokenizer.json. Truncation and padding are switched off. `out`: {"model": "BPE", "padding": null or {"pad_token",
 * "side"}}. */
int32_t oumi_bridge_tokenizer_new(OumiBytes json, OumiTokenizerHandle** tokenizer, OumiBuffer* out);
void oumi_bridge_tokenizer_free(OumiTokenizerHandle* tokenizer);
/* `json` is a list of {content, special, normalized?, lstrip?, rstrip?, single_word?}. A token that exists keeps its id, and
 * the flags that aren't given. */
int32_t oumi_bridge_tokenizer_add_tokens(OumiTokenizerHandle* mutable_tokenizer, OumiBytes json, OumiBuffer* out);
/* `json` is a post_processor object of tokenizer.json. */
int32_t oumi_bridge_tokenizer_set_post_processor(OumiTokenizerHandle* mutable_tokenizer, OumiBytes json, OumiBuffer* out);
/* `out`: tokenizer.json. */
int32_t oumi_bridge_tokenizer_json(const OumiTokenizerHandle* tokenizer, OumiBuffer* out);
size_t oumi_bridge_vocab_size(const OumiTokenizerHandle* tokenizer);
/* The id, or -1. */
int64_t oumi_bridge_token_to_id(const OumiTokenizerHandle* tokenizer, OumiBytes token);
/* `out`: the token. 0 when there is none. */
int32_t oumi_bridge_id_to_token(const OumiTokenizerHandle* tokenizer, uint32_t id, OumiBuffer* out);

enum { OUMI_BRIDGE_ADD_SPECIAL_TOKENS = 1, OUMI_BRIDGE_OFFSETS = 2 };
int32_t oumi_bridge_encode(const OumiTokenizerHandle* tokenizer, const OumiBytes* texts, size_t count, uint32_t flags,
                           OumiEncodings* encodings, OumiBuffer* out);
void oumi_bridge_encodings_release(OumiEncodings encodings);
/* `out`: the text. Ids that are not in the vocabulary give nothing. */
int32_t oumi_bridge_decode(const OumiTokenizerHandle* tokenizer, const uint32_t* ids, size_t count, int32_t skip_special_tokens,
                           OumiBuffer* out);

/* `json`: {"tokenizer": a tokenizer.json with an empty model, "kind": "bpe" | "unigram" | "wordpiece", "vocab_size",
 * "min_frequency", "special_tokens": [...], "alphabet": "characters that must be in", "limit_alphabet": int or null,
 * "unk_token": str or null, "files": [...]}. `out`: the trained tokenizer.json. */
int32_t oumi_bridge_train(OumiBytes json, OumiBuffer* out);

int32_t oumi_bridge_template_new(OumiBytes source, OumiTemplateHandle** chat_template, OumiBuffer* out);
void oumi_bridge_template_free(OumiTemplateHandle* chat_template);
/* Whether the template has {% generation %} blocks. */
int32_t oumi_bridge_template_generates(const OumiTemplateHandle* chat_template);
/* `context` is a JSON object. `out`: the text; `spans`: pairs of size_t, the bytes that {% generation %} gave. Messages of
 * errors begin with "line N: " where the line is known. */
int32_t oumi_bridge_render(const OumiTemplateHandle* chat_template, OumiBytes context, OumiBuffer* spans, OumiBuffer* out);

#ifdef __cplusplus
}
#endif
