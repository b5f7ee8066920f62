"""Documents to packed rows of tokens on disk: `datasets` with a fast tokenizer and TRL's `wrapped` packing.

usage: python text.py FILE TOKENIZER ROW CACHE PROCESSES [--ids]
FILE: JSONL with `text`. PROCESSES: of map; one of them encodes a batch on all cores. Prints one JSON object: seconds without imports, from the
file to the rows in CACHE; rows that are full; with --ids how many tokens these have together, and their hash.
"""

import json
import os
import sys
import time

CACHE, PROCESSES = sys.argv[4], int(sys.argv[5])
os.environ["HF_DATASETS_CACHE"] = CACHE
os.environ["TOKENIZERS_PARALLELISM"] = "true" if PROCESSES == 1 else "false"

import datasets  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from trl import pack_dataset  # noqa: E402


def main():
    file, folder, row = sys.argv[1], sys.argv[2], int(sys.argv[3])
    datasets.disable_progress_bars()
    how = {"num_proc": PROCESSES if PROCESSES > 1 else None}
    begin = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(batch):
        return {"input_ids": tokenizer(batch["text"], return_attention_mask=False)["input_ids"]}

    documents = datasets.load_dataset("json", data_files=file, split="train")
    encoded = documents.map(encode, batched=True, remove_columns=documents.column_names, **how)
    packed = pack_dataset(encoded, row, "wrapped", how)
    seconds = time.perf_counter() - begin
    # TRL cuts what one call of map got, 1000 documents: the tokens one after the other are the same as if it were all of them.
    tokens = sum(len(ids) for batch in packed.with_format("arrow").iter(1000) for ids in batch["input_ids"])
    result = {"seconds": seconds, "rows": tokens // row}
    if "--ids" in sys.argv:
        import array
        import hashlib

        ids = array.array("i", (id for row in packed for id in row["input_ids"]))[:tokens // row * row]
        result["ids"] = {"tokens": len(ids), "sha256": hashlib.sha256(ids.tobytes()).hexdigest()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
