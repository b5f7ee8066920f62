#!/usr/bin/env bash
# tokenizer train: the folder that it writes, and what it refuses.
source "$(dirname "$0")/../lib.sh"

python3 - <<'PY'
with open("corpus.txt", "w") as text:
    for i in range(200):
        text.write(f"The keeper of the lighthouse counts {i} ships, gulls and waves; each wave brings {i * 7} drops.\n")
PY

if ! has_text; then
  CASE="without Rust"
  expect_error 3 "tokenizers and chat templates were not built" "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 400 --out tok
  expect_absent tok
  report_and_exit
fi

CASE=train
expect_exit 0 "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 330 --out tok --chat-template chat_ml --special "<tool>" --model-max-length 64
expect_stdout "vocabulary: 330 tokens"
expect_no_stderr
expect_file tok/tokenizer.json tok/tokenizer_config.json tok/special_tokens_map.json tok/chat_template.jinja
expect_no_leftovers tok
pass
python3 - 2>.stderr <<'PY' || fail "the folder holds something else"
import json
config, tokenizer = json.load(open("tok/tokenizer_config.json")), json.load(open("tok/tokenizer.json"))
assert config["eos_token"] == "<|im_end|>" and config["pad_token"] == "<|pad|>" and config["model_max_length"] == 64, config
vocab = tokenizer["model"]["vocab"]
assert len(vocab) == 330 and sorted(vocab.values()) == list(range(330)), len(vocab)
special = {t["content"] for t in tokenizer["added_tokens"] if t["special"]}
assert special == {"<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>", "<tool>"}, special
PY
expect_exit 0 "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 330 --out again --chat-template chat_ml --special "<tool>" --model-max-length 64
for file in tokenizer.json tokenizer_config.json chat_template.jinja; do expect_same "tok/$file" "again/$file"; done

CASE="fewer tokens than asked for"
expect_exit 0 "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 9000 --kind wordpiece --out small
expect_stderr "fewer than --vocab-size 9000"

CASE=refused
expect_error 2 "--vocab-size is required" "$OUMI_CPP" tokenizer train --files corpus.txt --out no
expect_error 2 "expected bytelevel, bpe, unigram, wordpiece, got 'bqe'" "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 400 --kind bqe --out no
expect_error 2 "expected more than 260" "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 100 --kind bpe --out no
expect_error 2 "a path that does not exist" "$OUMI_CPP" tokenizer train --files nothing.txt --vocab-size 400 --out no
expect_error 2 "got 'chatml'" "$OUMI_CPP" tokenizer train --files corpus.txt --vocab-size 400 --chat-template chatml --out no
expect_absent no

report_and_exit
