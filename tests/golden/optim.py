"""Golden values for oumi/optim from PyTorch and Transformers.

Regenerate from the repository's root, with torch 2.11.0 and transformers 5.23.0 installed:
    python tests/golden/optim.py
It writes tests/golden/optim_{schedules,metric_schedules,steps,decay_names,clip}.json.
"""

import json
import math
import pathlib
import random

import torch
from transformers.optimization import Adafactor, get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


def word(value):
    """JSON has no infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, (list, tuple)):
        return [word(v) for v in value]
    if isinstance(value, dict):
        return {str(k): word(v) for k, v in value.items()}
    return value


def write(name, value):
    (HERE / f"optim_{name}.json").write_text(json.dumps(word(value), separators=(",", ":"), allow_nan=False) + "\n")


# --- schedules of the step -------------------------------------------------------------------------------------------
def schedules():
    kinds = [
        ("linear", {}), ("cosine", {}), ("cosine", {"num_cycles": 1.25}), ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"num_cycles": 3}), ("polynomial", {}), ("polynomial", {"lr_end": 1e-5, "power": 2.5}),
        ("constant", {}), ("constant_with_warmup", {}), ("inverse_sqrt", {}), ("inverse_sqrt", {"timescale": 7}),
        ("cosine_with_min_lr", {"min_lr": 3e-6}), ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.75}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2}),
        ("cosine_warmup_with_min_lr", {"min_lr": 1e-6, "warmup_lr_rate": 0.05}),
        ("warmup_stable_decay", {"num_decay_steps": 4}),
        ("warmup_stable_decay", {"num_decay_steps": 5, "decay_type": "linear", "warmup_type": "cosine", "min_lr_ratio": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 6, "num_stable_steps": 2, "decay_type": "1-sqrt",
                                 "warmup_type": "1-sqrt", "min_lr_ratio": 0.01}),
    ]
    combinations = [(0, 10), (3, 10), (7, 23), (1, 1), (10, 10), (20, 10), (100, 1234), (0, 0)]
    cases = []
    for kind, kwargs in kinds:
        for warmup, total in combinations:
            if kind == "polynomial" and total <= warmup and total > 0:
                if warmup == total:
                    continue  # Transformers divides by zero at that step
            if kind == "polynomial" and warmup == total:
                continue
            rates = [5e-5, 2e-3]
            parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in rates]
            optimizer = torch.optim.SGD([{"params": [p], "lr": r} for p, r in zip(parameters, rates)], lr=5e-5)
            scheduler = get_scheduler(kind, optimizer, warmup, total, dict(kwargs))
            last = total + 5
            keep = set(range(last + 1)) if last < 40 else set(random.Random(0).sample(range(last + 1), 12)) | {0, 1, warmup, total}
            points = []
            for step in range(last + 1):
                if step in keep:
                    points.append([step, *scheduler.get_last_lr()])
                optimizer.step()
                scheduler.step()
            cases.append({"type": kind, "kwargs": kwargs, "warmup": warmup, "total": total, "points": points})
    write("schedules", {"rates": [5e-5, 2e-3], "cases": cases})


# --- schedules of a metric -------------------------------------------------------------------------------------------
def metric_schedules():
    generator = random.Random(7)
    metrics = [round(2.0 / (1 + 0.1 * i) + generator.uniform(-0.05, 0.05), 4) for i in range(25)]
    metrics += [round(0.9 + generator.uniform(-0.2, 0.4), 4) for _ in range(25)] + [float("nan"), 0.1, float("inf"), 0.09]
    cases = []
    for kind, kwargs in [
        ("reduce_lr_on_plateau", {"patience": 2}),
        ("reduce_lr_on_plateau", {"mode": "max", "factor": 0.5, "patience": 1, "cooldown": 3, "threshold": 0.01, "threshold_mode": "abs"}),
        ("reduce_lr_on_plateau", {"patience": 0, "min_lr": [1e-3, 2e-2], "factor": 0.3}),
        ("greedy", {"patience": 1, "min_lr": 1e-4}),
        ("greedy", {"patience": 2, "factor": 0.5, "cooldown": 2, "warmup": 3, "max_lr": 0.3, "min_lr": 0.04, "reset_start": 2}),
        ("greedy", {"patience": 0, "smooth": True, "window_size": 4, "mode": "max", "threshold": 1e-3, "threshold_mode": "rel",
                    "min_lr": [0.01, 0.02], "factor": 0.7, "reset_start": 3}),
    ]:
        parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        optimizer = torch.optim.SGD([{"params": [p], "lr": r} for p, r in zip(parameters, [0.1, 0.2])], lr=0.1)
        scheduler = get_scheduler(kind, optimizer, scheduler_specific_kwargs=dict(kwargs))
        rates, middle = [], None
        for i, metric in enumerate(metrics):
            scheduler.step(metric)
            rates.append([group["lr"] for group in optimizer.param_groups])
            if i == 19:
                middle = json.loads(json.dumps(word(scheduler.state_dict())))
        cases.append({"type": kind, "kwargs": kwargs, "rates": rates, "state_after_20": middle,
                      "final_state": scheduler.state_dict()})
    write("metric_schedules", {"metrics": metrics, "cases": cases})


# --- optimizers ------------------------------------------------------------------------------------------------------
SHAPES = [[], [0], [5], [3, 4], [2, 3, 2], [1, 6], [4]]
STEPS = 20
NEVER = 6  # this parameter never has a gradient
SOMETIMES = 2  # this one has none at steps 1, 4, 7, ...
GROUPS = [([0, 2, 3, 6], 0.1, 1.0), ([1, 4, 5], 0.0, 2.0)]  # indices, weight decay, factor on the learning rate


def numbers(generator, shape):
    """Multiples of 1/64 that every dtype holds exactly."""
    return [generator.randint(-120, 120) for _ in range(math.prod(shape))]


def has_gradient(index, step):
    return index != NEVER and not (index == SOMETIMES and step % 3 == 1)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2, spelled out in the order of the paper."""

    def __init__(self, params, lr, betas):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                update = torch.sign(beta1 * m + (1 - beta1) * p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * update)
                m.mul_(beta2).add_((1 - beta2) * p.grad)


def plain(value):
    if torch.is_tensor(value):
        return {"shape": list(value.shape), "dtype": str(value.dtype)[6:], "data": value.double().flatten().tolist()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def steps():
    generator = random.Random(1)
    start = [numbers(generator, shape) for shape in SHAPES]
    gradients = [[numbers(generator, shape) for shape in SHAPES] for _ in range(STEPS)]
    kinds = {
        "adamw": ("adamw_torch", "", 0.01, lambda g, lr: torch.optim.AdamW(g, lr=lr, foreach=False)),
        "adamw_foreach": ("adamw_torch", "", 0.01, lambda g, lr: torch.optim.AdamW(g, lr=lr, foreach=True)),
        "adamw_fused": ("adamw_torch_fused", "", 0.01, lambda g, lr: torch.optim.AdamW(g, lr=lr, fused=True)),
        "adamw_amsgrad": ("adamw", "amsgrad=True,beta1=0.8,beta2=0.95,eps=1e-6", 0.01,
                          lambda g, lr: torch.optim.AdamW(g, lr=lr, betas=(0.8, 0.95), eps=1e-6, amsgrad=True, foreach=False)),
        "adam": ("adam", "", 0.01, lambda g, lr: torch.optim.Adam(g, lr=lr, foreach=False)),
        "sgd": ("sgd", "", 0.05, lambda g, lr: torch.optim.SGD(g, lr=lr, foreach=False)),
        "sgd_momentum": ("sgd", "momentum=0.9,dampening=0.25", 0.05,
                         lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.9, dampening=0.25, foreach=False)),
        "sgd_nesterov": ("sgd", "momentum=0.9,nesterov=true", 0.05,
                         lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.9, nesterov=True, foreach=False)),
        "adagrad": ("adagrad", "lr_decay=0.1,initial_accumulator_value=0.5", 0.05,
                    lambda g, lr: torch.optim.Adagrad(g, lr=lr, lr_decay=0.1, initial_accumulator_value=0.5, foreach=False)),
        "rmsprop": ("rmsprop", "", 0.01, lambda g, lr: torch.optim.RMSprop(g, lr=lr, foreach=False)),
        "rmsprop_centered": ("rmsprop", "momentum=0.5,centered=1,alpha=0.9,eps=1e-6", 0.01,
                             lambda g, lr: torch.optim.RMSprop(g, lr=lr, momentum=0.5, centered=True, alpha=0.9, eps=1e-6, foreach=False)),
        "adafactor": ("adafactor", "", 0.01, lambda g, lr: Adafactor(g, lr=lr, scale_parameter=False, relative_step=False)),
        "adafactor_full": ("adafactor", "scale_parameter=True,relative_step=True,warmup_init=True,beta1=0.9", 0.01,
                           lambda g, lr: Adafactor(g, lr=None, beta1=0.9, warmup_init=True)),
        "lion": ("lion", "", 0.01, lambda g, lr: Lion(g, lr, (0.9, 0.999))),
    }
    cases = []
    for label, (name, arguments, rate, make) in kinds.items():
        for dtype in [torch.float32, torch.float64, torch.bfloat16]:
            if dtype == torch.float64 and label not in ("adamw", "sgd_momentum", "adagrad", "adafactor"):
                continue
            if dtype == torch.bfloat16 and label not in ("adamw_fused", "adafactor"):
                continue
            # Adafactor divides by the number of elements, so an empty parameter has no gradient there.
            skip_empty = name == "adafactor"
            parameters = [torch.nn.Parameter((torch.tensor(s, dtype=torch.float64) / 64).reshape(shape).to(dtype))
                          for s, shape in zip(start, SHAPES)]
            groups = [{"params": [parameters[i] for i in indices], "weight_decay": decay} for indices, decay, _ in GROUPS]
            optimizer = make(groups, rate)
            case = {"label": label, "name": name, "arguments": arguments, "dtype": str(dtype)[6:], "rate": rate, "after": {}}
            for step in range(STEPS):
                for group, (_, _, factor) in zip(optimizer.param_groups, GROUPS):
                    if group["lr"] is not None:
                        group["lr"] = rate * factor * (1 - step / 40)
                for index, (p, g, shape) in enumerate(zip(parameters, gradients[step], SHAPES)):
                    wanted = has_gradient(index, step) and not (skip_empty and p.numel() == 0)
                    p.grad = (torch.tensor(g, dtype=torch.float64) / 64).reshape(shape).to(dtype) if wanted else None
                optimizer.step()
                if step + 1 in (1, STEPS):
                    case["after"][step + 1] = [p.detach().double().flatten().tolist() for p in parameters]
                if step + 1 == 10 and dtype == torch.float32 and label in (
                        "adamw_fused", "sgd_momentum", "adagrad", "rmsprop_centered", "adafactor"):
                    case["parameters_after_10"] = [p.detach().double().flatten().tolist() for p in parameters]
                    case["state_after_10"] = plain(optimizer.state_dict())
            cases.append(case)
    write("steps", {"shapes": SHAPES, "groups": GROUPS, "never": NEVER, "sometimes": SOMETIMES, "start": start,
                    "gradients": gradients, "cases": cases})


# --- weight decay by name --------------------------------------------------------------------------------------------
def decay_names():
    parts = ["norm", "norms", "my_norm", "normal", "norm1", "LayerNorm", "layer_norm", "input_layernorm", "RMSNorm", "rms_norm",
             "Bias", "bias_layer", "embed", "q_norm", "qnorm", "norm_q", "_norm", "Norm"]
    patterns = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    result = []
    names = [f"{a}.{b}" for a in parts for b in ("weight", "bias", "norm", "inner.weight")] + parts
    for name in names:
        root = torch.nn.Module()
        module = root
        *path, leaf = name.split(".")
        for part in path:
            child = torch.nn.Module()
            module.add_module(part, child)
            module = child
        module.register_parameter(leaf, torch.nn.Parameter(torch.zeros(1)))
        result.append([name, name in get_parameter_names(root, [torch.nn.LayerNorm], patterns)])
    write("decay_names", result)


# --- clipping --------------------------------------------------------------------------------------------------------
def clip():
    cases = []
    generator = random.Random(3)
    shapes = [[], [0], [7], [3, 5]]
    values = [numbers(generator, shape) for shape in shapes]
    for dtype in [torch.float32, torch.float64, torch.bfloat16]:
        for max_norm in [1.0, 0.25, 1000.0]:
            parameters = []
            for value, shape in zip(values, shapes):
                p = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
                p.grad = (torch.tensor(value, dtype=torch.float64) / 64).reshape(shape).to(dtype)
                parameters.append(p)
            norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
            cases.append({"dtype": str(dtype)[6:], "max_norm": max_norm, "norm": norm.double().item(),
                          "clipped": [p.grad.double().flatten().tolist() for p in parameters]})
    write("clip", {"shapes": shapes, "values": values, "cases": cases})


schedules()
metric_schedules()
steps()
decay_names()
clip()
