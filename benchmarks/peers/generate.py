"""Greedy generation with transformers, peer of `oumi-cpp infer`.

usage: python generate.py FOLDER QUESTIONS.jsonl NEW_TOKENS PRECISION BATCH_SIZE
QUESTIONS holds a {"prompt": text} a line; PRECISION is fp32 or bf16; BATCH_SIZE prompts are answered together, padded on the left. The first batch
is answered once before the clock starts. Prints one JSON object: the answers' texts, new tokens and prompts' tokens a second over all together.
"""

import json
import sys
import time
from pathlib import Path


def main():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, questions, count, precision, batch_size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if precision == "bf16" else torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", pad_token="<|endoftext|>")
    prompts = [json.loads(line)["prompt"] for line in questions.read_text().splitlines()]
    batches = [tokenizer(prompts[i:i + batch_size], return_tensors="pt", padding=True) for i in range(0, len(prompts), batch_size)]

    def answer(batch):
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=count, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        return out[:, batch["input_ids"].size(1):]

    answer(batches[0])
    begin = time.perf_counter()
    answers = [answer(batch) for batch in batches]
    seconds = time.perf_counter() - begin
    print(json.dumps({"answers": [text for ids in answers for text in tokenizer.batch_decode(ids, skip_special_tokens=True)],
                      "tokens_per_second": sum(ids.numel() for ids in answers) / seconds,
                      "prompt_tokens_per_second": sum(int(batch["attention_mask"].sum()) for batch in batches) / seconds}))


if __name__ == "__main__":
    main()
