"""Opens tokenizers that oumi saved in Transformers: the tokens, special tokens and rendered chats that they had before.

    OUMI_SAVE_TOKENIZERS=/tmp/saved build/release/tests/oumi_text_test --gtest_filter='*SavesWhatLoadsTheSame*'
    python tests/golden/text_check.py /tmp/saved
"""
import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

GOLDEN = Path(__file__).parent
TEXTS = json.loads((GOLDEN / "text.json").read_text())["texts"]


def check(folder):
    saved = AutoTokenizer.from_pretrained(folder)
    original = AutoTokenizer.from_pretrained(GOLDEN / "text" / folder.name)
    wrong = []

    def expect(what, got, expected):
        if got != expected:
            wrong.append(f"{what}: expected {expected!r}, got {got!r}")

    for text in TEXTS:
        expect(f"ids of {text[:30]!r}", saved(text)["input_ids"], original(text)["input_ids"])
        ids = original(text, add_special_tokens=False)["input_ids"]
        expect(f"text of {text[:30]!r}", saved.decode(ids), original.decode(ids))
    # What the test changes: a new padding token, the longest length, the template.
    expect("vocabulary", len(saved), len(original) + 1)
    expect("pad_token", (saved.pad_token, saved.pad_token_id), ("<a pad>", len(original)))
    expect("model_max_length", saved.model_max_length, 77)
    for name in ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token", "padding_side", "truncation_side"):
        expect(name, getattr(saved, name), getattr(original, name))
    expect("chat", saved.apply_chat_template([{"role": "user", "content": "Hé"}], tokenize=False), "Hé")
    for problem in wrong:
        print(f"BAD {folder.name}: {problem}")
    if not wrong:
        print(f"ok  {folder.name}: {len(TEXTS)} texts, special tokens, padding, template")
    return not wrong


results = [check(folder) for folder in sorted(Path(sys.argv[1]).iterdir())]
sys.exit(0 if results and all(results) else 1)
