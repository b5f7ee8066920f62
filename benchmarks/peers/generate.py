"""Greedy generation with transformers, peer of `oumi-cpp infer`.

usage: python generate.py FOLDER QUESTIONS.jsonl NEW_TOKENS PRECISION
QUESTIONS holds a {"prompt": text} a line; PRECISION is fp32 or bf16. The first prompt is answered once before the clock starts. Prints one JSON
object: the answers' texts, new tokens a second over all prompts together, and how many tokens a prompt has.
"""

import json
import sys
import time
from pathlib import Path


def main():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, questions, count, precision = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if precision == "bf16" else torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(json.loads(line)["prompt"], return_tensors="pt") for line in questions.read_text().splitlines()]

    def answer(prompt):
        with torch.inference_mode():
            out = model.generate(**prompt, max_new_tokens=count, do_sample=False, pad_token_id=0)
        return out[0, prompt["input_ids"].size(1):]

    answer(prompts[0])
    begin = time.perf_counter()
    answers = [answer(prompt) for prompt in prompts]
    seconds = time.perf_counter() - begin
    print(json.dumps({"answers": [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers],
                      "tokens_per_second": sum(ids.numel() for ids in answers) / seconds,
                      "prompt_tokens_per_second": sum(p["input_ids"].size(1) for p in prompts) / seconds}))


if __name__ == "__main__":
    main()
