"""Language models of real shapes against transformers' Trainer, from the same initial weights on the same tokens."""

import json
import pathlib
import sys
import tempfile

import common
from common import harmonic_mean, interleaved, ratio, run, spread

# What each case adds on either side; the peers' precisions are those of peers/language_model.py.
LORA = ["training.use_peft=true", "peft.lora_r=16", "peft.lora_alpha=32",
        "peft.lora_target_modules=[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"]
FLOAT32, BFLOAT16 = "model.torch_dtype_str=float32", "model.torch_dtype_str=bfloat16"
CASES = {
    "SmolLM2-135M, fp32": dict(model="smollm2-135m", steps=5, oumi=[FLOAT32], peers={"eager": ["fp32"], "compiled": ["fp32", "--compile"]}, tolerance=1e-3),
    "SmolLM2-135M, bf16 weights": dict(model="smollm2-135m", steps=6, oumi=[BFLOAT16],
                                       peers={"eager": ["bf16_weights"], "compiled": ["bf16_weights", "--compile"]}, tolerance=2e-2),
    "SmolLM2-135M, fp32 weights, bf16 autocast": dict(model="smollm2-135m", steps=6, oumi=[FLOAT32, "training.bf16=true"],
                                                      peers={"eager": ["bf16"], "compiled": ["bf16", "--compile"]}, tolerance=2e-2),
    "SmolLM2-135M, LoRA r=16, bf16 weights": dict(model="smollm2-135m", steps=6, oumi=[BFLOAT16, *LORA], peers={"eager": ["bf16_weights", "--lora", "16"]},
                                                  tolerance=2e-2),
    "SmolLM2-135M, LoRA r=16, fp32": dict(model="smollm2-135m", steps=5, oumi=[FLOAT32, *LORA], peers={"eager": ["fp32", "--lora", "16"]}, tolerance=1e-3),
    "GPT-2 124M, fp32": dict(model="gpt2-124m", steps=5, oumi=[FLOAT32], peers={"eager": ["fp32"]}, tolerance=1e-3),
}
BATCH, LENGTH = 4, 512


def oumi_training(sides, folder, steps, overrides):
    settings = {"trainer_type": "HF", "max_steps": steps, "per_device_train_batch_size": BATCH, "optimizer": "adamw_torch_fused", "learning_rate": 1e-4,
                "weight_decay": 0.0, "lr_scheduler_type": "linear", "max_grad_norm": 1.0, "logging_steps": 1}
    config = folder / "oumi.yaml"
    config.write_text(json.dumps({"model": {"model_name": str(folder)},
                                  "data": {"train": {"datasets": [{"dataset_name": "pretokenized", "dataset_path": str(folder / "tokens.jsonl")}]}}}))
    lines, seconds, peak = common.oumi_training(sides, config, settings, overrides)
    steps_of = [line for line in lines if "loss" in line]
    return {"tokens_per_second": LENGTH * harmonic_mean([line["samples_per_second"] for line in steps_of][2:]), "first_step_seconds": seconds, "peak_rss_mib": peak,
            "losses": {str(line["step"]): line["loss"] for line in steps_of}}


def peer_training(sides, folder, steps, options):
    precision, *rest = options
    out, _, peak = run(sides.peer("language_model.py", "train", folder, precision, steps, BATCH, *rest))
    return {**json.loads(out.splitlines()[-1]), "peak_rss_mib": peak}


def rows(sides, raw, only=None):
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in CASES.items():
            if only and only not in name:
                continue
            if "bf16" in name and not sides.has_bfloat16 and not only:
                table.append((f"{name}, 4 x 512", "not measured", "without bfloat16 instructions", "", None))
                continue
            folder = pathlib.Path(scratch) / case["model"]
            if not folder.exists():
                run(sides.peer("language_model.py", "prepare", folder, case["model"], 64, LENGTH))
            measures = {"oumi": lambda: oumi_training(sides, folder, case["steps"], case["oumi"])}
            for peer, options in case["peers"].items():
                measures[peer] = lambda options=options: peer_training(sides, folder, case["steps"], options)
            results = raw[name] = interleaved(measures, sides.rounds)
            for peer in case["peers"]:
                check(name, results["oumi"][0]["losses"], results[peer][0]["losses"], case["tolerance"])
            rates = {side: [r["tokens_per_second"] for r in runs] for side, runs in results.items()}
            peaks = {side: [r["peak_rss_mib"] for r in runs] for side, runs in results.items()}
            best_rate = [max(rates[peer][i] for peer in case["peers"]) for i in range(sides.rounds)]
            least_peak = [min(peaks[peer][i] for peer in case["peers"]) for i in range(sides.rounds)]
            table.append((f"{name}, 4 x 512, tokens/s", spread(rates["oumi"]), ", ".join(f"{peer} {spread(rates[peer])}" for peer in case["peers"]), "",
                          ratio(rates["oumi"], best_rate)))
            table.append((f"{name}, peak memory, MiB", spread(peaks["oumi"]), ", ".join(f"{peer} {spread(peaks[peer])}" for peer in case["peers"]), "",
                          ratio(peaks["oumi"], least_peak)))
        folder = pathlib.Path(scratch) / "smollm2-135m"
        if not only:
            one = raw["language_one_step"] = interleaved(
                {"oumi": lambda: oumi_training(sides, folder, 1, ["model.torch_dtype_str=float32"])["first_step_seconds"],
                 "hf": lambda: peer_training(sides, folder, 1, ["fp32"])["first_step_seconds"]}, sides.rounds)
            table.append(("SmolLM2-135M, a whole one-step run against HF's first step, s", spread(one["oumi"]), spread(one["hf"]), "", ratio(one["hf"], one["oumi"])))
    return table


def check(name, ours, theirs, tolerance):
    worst = max(abs(ours[step] - theirs[step]) / theirs[step] for step in theirs)
    if ours.keys() != theirs.keys() or worst > tolerance:
        sys.exit(f"{name}: the trainings disagree, nothing is timed: {ours} {theirs}")
