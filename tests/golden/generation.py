"""Reference values for oumi/generation and oumi/trainer/language_evaluation.h: what Transformers' logits processors make of scores, what its
greedy generate continues with on tiny, randomly initialised models of several families, and their losses, accuracies and scores of choices.

Regenerate, with torch 2.11 and transformers 5.23 installed:
    python tests/golden/generation.py
"""

import copy
import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.generation.logits_process import (
    LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

OUT = Path(__file__).parent / "generation"
VOCAB = 96
SMALL = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
FAMILIES = {
    "llama": dict(SMALL, model_type="llama", head_dim=12, rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
                                                                           "high_freq_factor": 4.0, "original_max_position_embeddings": 16}),
    "mistral": dict(SMALL, model_type="mistral", head_dim=8, sliding_window=6),
    "qwen2": dict(SMALL, model_type="qwen2", tie_word_embeddings=True),
    "qwen3": dict(SMALL, model_type="qwen3", head_dim=16),
    "phi3": dict(SMALL, model_type="phi3", num_key_value_heads=4),
    "gemma2": dict(SMALL, model_type="gemma2", tie_word_embeddings=False, head_dim=16, sliding_window=6, query_pre_attn_scalar=16, attn_logit_softcapping=20.0, final_logit_softcapping=30.0),
    "gemma3_text": dict(SMALL, model_type="gemma3_text", tie_word_embeddings=False, head_dim=16, sliding_window=6, query_pre_attn_scalar=16, layer_types=["sliding_attention", "full_attention"]),
    "gpt2": dict(model_type="gpt2", vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=2),
}
PROMPTS = [[5, 17, 40, 8, 61], [33, 9, 2, 77, 50, 12, 90, 3, 14, 28, 6], [71, 21, 3, 45, 66, 19, 84, 10]]
NEW_TOKENS = 24


def processors():
    generator = torch.Generator().manual_seed(1)
    cases = []
    for options in [dict(temperature=0.7), dict(top_k=5), dict(top_p=0.8), dict(min_p=0.1), dict(repetition_penalty=1.3), dict(top_p=0.05), dict(top_k=1),
                    dict(temperature=1.7, top_k=12, top_p=0.9, min_p=0.05, repetition_penalty=1.1), dict(temperature=0.3, top_p=0.95), dict(temperature=2.5, min_p=0.3)]:
        scores = torch.randn(40, generator=generator) * 3
        if options.get("top_k") == 5:
            scores[7] = scores[8] = scores.sort(descending=True).values[4]  # equals of the k-th stay
        history = [1, 5, 5, 30, 39]
        chain = LogitsProcessorList()
        if "repetition_penalty" in options:
            chain.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
        if "temperature" in options:
            chain.append(TemperatureLogitsWarper(options["temperature"]))
        if "top_k" in options:
            chain.append(TopKLogitsWarper(options["top_k"]))
        if "top_p" in options:
            chain.append(TopPLogitsWarper(options["top_p"]))
        if "min_p" in options:
            chain.append(MinPLogitsWarper(options["min_p"]))
        result = chain(torch.tensor([history]), scores[None].clone())[0]
        cases.append({"options": options, "scores": scores.tolist(), "history": history,
                      "processed": [None if value == float("-inf") else value for value in result.tolist()],
                      "probabilities": torch.softmax(result.double(), -1).tolist()})
    return cases


def tiny_model(name):
    folder = OUT / name
    config = AutoConfig.for_model(**FAMILIES[name])
    for seed in range(100):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        # Weights that bfloat16 holds exactly: half the size on disk, the same values in float32.
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().float()
        answers = [continue_(model, prompt) for prompt in PROMPTS]
        # No choice may hang on rounding, and one and the same token for ever tells nothing.
        if min(a["margin"] for a in answers) > 0.004 and min(len(set(a["ids"])) for a in answers) > 4:
            break
    else:
        raise SystemExit(f"{name}: no seed gives clear choices")
    copy.deepcopy(model).bfloat16().save_pretrained(folder)  # of a copy: it rounds the rotary frequencies too
    penalized = [continue_(model, prompt, repetition_penalty=1.3) for prompt in PROMPTS]
    stops = sorted({answers[0]["ids"][4], answers[1]["ids"][9]})
    stopped = [continue_(model, prompt, eos_token_id=stops) for prompt in PROMPTS]
    print(name, "seed", seed, "margin", min(a["margin"] for a in answers), min(a["margin"] for a in penalized))
    return {"model": name, "greedy": [a["ids"] for a in answers], "repetition_penalty_1.3": [a["ids"] for a in penalized], "stop_token_ids": stops,
            "stopped": [a["ids"] for a in stopped]}


def continue_(model, prompt, **options):
    options.setdefault("eos_token_id", None)
    with torch.no_grad():
        model.generation_config.eos_token_id = None
        result = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=NEW_TOKENS, do_sample=False,
                                return_dict_in_generate=True, output_scores=True, pad_token_id=0, **options)
    gaps = [float((top := scores[0].topk(2).values)[0] - top[1]) for scores in result.scores]
    return {"ids": result.sequences[0, len(prompt):].tolist(), "margin": min(gaps)}


def tokenizer():
    """A byte-level tokenizer of 96 tokens for words of a few letters."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False)
    model.train_from_iterator(["the cat sat on the mat", "a dog ran to the red car", "naïve café", "one two three four five six seven: what is it? yes no"] * 4, trainer)
    assert model.get_vocab_size() <= VOCAB
    fast = PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(OUT / "tokenizer")
    return fast


QUESTIONS = [{"query": "the cat sat on", "choices": ["the mat", "a red car", "it"], "gold": 0}, {"query": "what is it? ", "choices": ["a naïve café", "yes"], "gold": 1},
             {"query": "one two", "choices": ["three", "four", "café café", "no"], "gold": 2}, {"query": "", "choices": ["the dog ran to the red car", "no"], "gold": 0},
             {"query": "the dog", "choices": ["is", "ran to the mat on the red mat"], "gold": 1}]


def multiple_choice(name):
    """Scores as lm-evaluation-harness makes them."""
    model, encode = load(name), tokenizer()
    scores, acc, acc_norm, acc_bytes = [], 0, 0, 0
    for question in QUESTIONS:
        row = []
        for choice in question["choices"]:
            context, continuation = question["query"], " " + choice
            spaces = len(context) - len(context.rstrip())
            continuation = context[len(context) - spaces:] + continuation
            context = context[: len(context) - spaces]
            whole = encode.encode(context + continuation, add_special_tokens=False)
            begin = len(encode.encode(context, add_special_tokens=False))
            if not context:
                whole, begin = [encode.bos_token_id] + whole, 1
            log_probabilities = torch.log_softmax(model(torch.tensor([whole[:-1]])).logits[0].double(), -1)
            row.append(sum(log_probabilities[i - 1, whole[i]].item() for i in range(begin, len(whole))))
        scores.append(row)
        best = lambda lengths: max(range(len(row)), key=lambda i: row[i] / lengths[i])
        acc += best([1] * len(row)) == question["gold"]
        acc_norm += best([len(c) for c in question["choices"]]) == question["gold"]
        acc_bytes += best([len(c.encode()) for c in question["choices"]]) == question["gold"]
    count = len(QUESTIONS)
    return {"model": name, "questions": QUESTIONS, "scores": scores, "acc": acc / count, "acc_norm": acc_norm / count, "acc_bytes": acc_bytes / count}


def evaluation(name):
    """Two batches of different sizes, padded on the right, some labels hidden."""
    model, generator = load(name), torch.Generator().manual_seed(4)
    batches, total, correct, tokens = [], 0.0, 0, 0
    for lengths in ([9, 4, 12], [6, 15]):
        ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for row, length in enumerate(lengths):
            ids[row, :length] = torch.randint(3, VOCAB, (length,), generator=generator)
            for i in range(3, length, 2):  # every other token is what the model predicts
                ids[row, i] = model(ids[row:row + 1, :i]).logits[0, -1].argmax()
            labels[row, 2:length] = ids[row, 2:length]
            mask[row, :length] = 1
        result = model(input_ids=ids, attention_mask=mask, labels=labels)
        total += result.loss.item() * len(lengths)
        wanted = labels[:, 1:] != -100
        tokens += int(wanted.sum())
        correct += int((result.logits[:, :-1].argmax(-1) == labels[:, 1:])[wanted].sum())
        batches.append({"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "labels": labels.tolist()})
    return {"model": name, "batches": batches, "loss": total / 5, "accuracy": correct / tokens, "tokens": tokens}


def load(name):
    return AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.float32, attn_implementation="eager").eval()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    (OUT / "values.json").write_text(json.dumps({"prompts": PROMPTS, "max_new_tokens": NEW_TOKENS, "processors": processors(),
                                                 "models": [tiny_model(name) for name in FAMILIES], "multiple_choice": multiple_choice("qwen2"),
                                                 "evaluation": evaluation("llama")}) + "\n")
    for folder in OUT.iterdir():
        if folder.is_dir():
            (folder / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
