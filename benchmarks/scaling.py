"""What a step costs as batch, length, layers and ranks grow, one at a time: a small Llama in float32, AdamW. Seconds against a straight line, for
length with attention's square, for ranks (one core and one batch each) against no growth. BUILD/bench/scaling.svg shows it."""

import json
import pathlib
import random
import tempfile

import chart
import common
from common import interleaved, median, on_cores

BASE = {"batch": 4, "length": 256, "layers": 6, "ranks": 1}
VALUES = {"batch": [1, 2, 4, 8], "length": [128, 256, 384, 512, 768, 1024], "layers": [3, 6, 12, 24], "ranks": [1, 2]}
POWERS = {"batch": (0, 1), "length": (0, 1, 2), "layers": (0, 1), "ranks": (0,)}
TITLES = {"batch": "batch, samples", "length": "length, tokens", "layers": "layers", "ranks": "ranks, a core and a batch for each"}
VOCABULARY, STEPS, WARM = 8192, 9, 3
MODEL = {"vocab_size": VOCABULARY, "hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6, "num_key_value_heads": 2,
         "max_position_embeddings": max(VALUES["length"]), "rms_norm_eps": 1e-5, "tie_word_embeddings": True}


def seconds_of_a_step(sides, folder, shape, cores=None):
    """The median over steps; with `cores`, on so many cores, shared by the ranks."""
    tokens = folder / f"{shape['length']}.jsonl"
    if not tokens.exists():
        draw = random.Random(0)
        rows = [[draw.randrange(VOCABULARY) for _ in range(shape["length"])] for _ in range(STEPS * max(VALUES["batch"]) * max(VALUES["ranks"]))]
        tokens.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    config = folder / "oumi.yaml"
    config.write_text(json.dumps({
        "model": {"model_name": "llama", "load_pretrained_weights": False, "torch_dtype_str": "float32",
                  "model_kwargs": {**MODEL, "num_hidden_layers": shape["layers"]}},
        "data": {"train": {"datasets": [{"dataset_name": "pretokenized", "dataset_path": str(tokens)}]}}}))
    settings = {"trainer_type": "HF", "max_steps": STEPS, "per_device_train_batch_size": shape["batch"], "optimizer": "adamw_torch_fused",
                "learning_rate": 1e-4, "logging_steps": 1}
    ranks = shape["ranks"]
    program = [sides.oumi, "launch", "--nproc-per-node", ranks] if ranks > 1 else [sides.oumi]
    lines, _, _ = common.oumi_training(sides, config, settings, [], on_cores(cores, ranks) + program if cores else program)
    return median([shape["batch"] * ranks / line["samples_per_second"] for line in lines if "loss" in line][WARM:])


def solve(matrix, right):
    """Gaussian elimination, for the few unknowns of a fit."""
    rows = [[*row, value] for row, value in zip(matrix, right)]
    for i in range(len(rows)):
        best = max(range(i, len(rows)), key=lambda j: abs(rows[j][i]))
        rows[i], rows[best] = rows[best], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i])]
    return [row[-1] for row in rows]


def fit(points, powers):
    """Coefficients of `powers` with the least sum of squared relative deviations, and the worst of these deviations."""
    terms = [[x**power / y for power in powers] for x, y in points]
    matrix = [[sum(row[i] * row[j] for row in terms) for j in range(len(powers))] for i in range(len(powers))]
    coefficients = solve(matrix, [sum(row[i] for row in terms) for i in range(len(powers))])
    return coefficients, max(abs(sum(c * t for c, t in zip(coefficients, row)) - 1) for row in terms)


def formula(name, coefficients, powers):
    """In milliseconds."""
    units = {0: "", 1: f" {name}", 2: f" {name}²"}
    text = " + ".join((f"{1e3 * c:,.0f}" if abs(c) >= 0.1 else f"{1e3 * c:.3g}") + units[power] for c, power in zip(coefficients, powers))
    return text.replace("+ -", "- ") + " ms"


def rows(sides, raw):
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)

        def measure(dimension, value):
            # Ranks have a core each, one of them too.
            return seconds_of_a_step(sides, folder, {**BASE, dimension: value}, value if dimension == "ranks" else None)

        cases = {(dimension, value): lambda d=dimension, v=value: measure(d, v) for dimension, values in VALUES.items() for value in values}
        results = interleaved(cases, sides.rounds)
    table, panels, raw["scaling"] = [], [], {"base": BASE, "model": MODEL, "seconds": {}, "fits": {}}
    for dimension, values in VALUES.items():
        runs = {value: results[dimension, value] for value in values}
        coefficients, worst = fit([(value, median(runs[value])) for value in values], POWERS[dimension])
        raw["scaling"]["seconds"][dimension] = runs
        raw["scaling"]["fits"][dimension] = {"powers": POWERS[dimension], "coefficients": coefficients, "worst_deviation": worst}
        text = formula(dimension, coefficients, POWERS[dimension])
        panels.append(chart.Panel(TITLES[dimension], runs, lambda x, c=coefficients, p=POWERS[dimension]: sum(a * x**power for a, power in zip(c, p)),
                                  [text, f"worst deviation {100 * worst:.1f}%"]))
        table.append((f"a step as {dimension} grows, {values[0]}-{values[-1]}, s", f"{median(runs[values[0]]):.3g} to {median(runs[values[-1]]):.3g}", "",
                      f"fit {text}, worst deviation {100 * worst:.1f}%", None))
    out = sides.build / "bench"
    out.mkdir(exist_ok=True)
    base = ", ".join(f"{name} {value}" for name, value in BASE.items() if name != "ranks")
    subtitle = f"A Llama of {MODEL['hidden_size']} hidden units, float32, AdamW; unless a panel varies it: {base}"
    (out / "scaling.svg").write_text(chart.svg("Seconds of a training step", subtitle, panels))
    return table
