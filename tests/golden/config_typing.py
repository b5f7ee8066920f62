"""Golden values of OmegaConf's typing rules, for oumi/config.

Builds Oumi's config tree as dataclasses from oumi_config_fields.json, feeds it YAML texts and overrides through OmegaConf, and
records the values that come out, or that it refuses.

Regenerate (needs `pip install omegaconf==2.4.0.dev4`), from the repository's root:
    python tests/golden/config_typing.py > tests/golden/config_typing.json
"""

import dataclasses
import enum
import json
import math
import pathlib
import re
import sys
from typing import Any

from omegaconf import MISSING, OmegaConf

FACTS = json.loads((pathlib.Path(__file__).parent / "oumi_config_fields.json").read_text())
ENUMS = {name: enum.Enum(name, members) for name, members in FACTS["enums"].items()}
CLASSES = {}


def to_type(text):
    text = re.sub(r"^<enum '(\w+)$", r"\1", text.strip())
    for name in ENUMS:
        if text.startswith(name):
            return ENUMS[name] | None if text.endswith("None") else ENUMS[name]
    for name in FACTS["sections"]:
        if text == f"list[{name}]":
            return list[section(name)]
        if text == name:
            return section(name)
        if text == f"{name} | None":
            return section(name) | None
    return eval(text.replace("Path", "pathlib.Path"))


def section(name):
    if name in CLASSES:
        return CLASSES[name]
    fields = []
    for key, fact in FACTS["sections"][name].items():
        kind, default = to_type(fact["type"]), fact["default"]
        if default == "(section)":
            fields.append((key, kind, dataclasses.field(default_factory=kind)))
        elif default == "(required)":
            fields.append((key, kind, MISSING))
        elif isinstance(default, (list, dict)):
            fields.append((key, kind, dataclasses.field(default_factory=lambda value=default: type(value)(value))))
        elif isinstance(kind, type) and issubclass(kind, enum.Enum):
            fields.append((key, kind, kind[default]))
        else:
            fields.append((key, kind, default))
    CLASSES[name] = dataclasses.make_dataclass(name, fields)
    return CLASSES[name]


def load(text, overrides=()):
    # As Oumi reads files: "${" is escaped first.
    text = re.sub(r"(?<!\\)\$\{", r"\\${", text)
    config = OmegaConf.merge(OmegaConf.structured(section("TrainingConfig")), OmegaConf.create(text))
    config.merge_with_dotlist(list(overrides))
    return plain(OmegaConf.to_object(config))


def plain(value):
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


BASE = "model: {model_name: m}\ndata: {train: {datasets: [{dataset_name: d}]}}\n"

SCALARS = """true false yes no on off Yes NO y n null ~ '' 0 1 2 -1 +5 -0 1.0 2.5 1e3 1e-4 1E5 1.e3 .5 -.5 .5e3 1_000 1__0 1_ _1 0x10 0X10
0b11 0o10 010 08 0_0 1:30 01:30 190:20:30.15 .inf -.inf .nan .NaN inf nan NaN 1e400 2020-01-01 abc '7' '1.5' '1e-4' ' 7 ' '0x10' '1_000'
'true' 'oN' 'maybe' '010' '-.5' 9223372036854775807 -9223372036854775808 12e03 1.5e+3 0.1e-7 1. .e3 - [] {} [1] {a:\\ 1} 0.10 1e20
123456789.125 0.00001 1e16 !!str\\ 5 !!int\\ '5' !!float\\ 5 "\\u00e9" a\\ b a=b ${x} \\\\${x}""".split(" ")


def cases():
    words = []
    joined = " ".join(SCALARS).replace("\n", " ").split(" ")
    for word in joined:  # "\\ " stands for a space inside of a word
        if words and words[-1].endswith("\\"):
            words[-1] = words[-1][:-1] + " " + word
        else:
            words.append(word)
    words = [word.replace("\\\\$", "\\$") for word in words if word]
    targets = ["training.gradient_accumulation_steps", "training.dataloader_prefetch_factor", "training.learning_rate",
               "training.max_grad_norm", "training.use_peft", "training.output_dir", "training.run_name",
               "training.dataloader_num_workers", "training.trainer_kwargs.x", "model.freeze_layers",
               "model.model_kwargs", "model.chat_template_kwargs", "training.trainer_type", "deepspeed.precision", "deepspeed.offload_param"]
    for target in targets:
        for word in words:
            head, leaf = target.split(".", 1)
            text = BASE
            nested = "{" + "{".join(part + ": " for part in leaf.split("."))
            line = nested + word + "}" * (leaf.count(".") + 1)
            if head == "data":
                text = f"model: {{model_name: m}}\ndata: {{train: {{datasets: [{{dataset_name: d}}], stream: {word}}}}}\n"
            elif head == "model":
                text = f"model: {{model_name: m, {leaf}: {word}}}\ndata: {{train: {{datasets: [{{dataset_name: d}}]}}}}\n"
            else:
                text = BASE + f"{head}: {line}\n"
            yield text, []
            if "$" not in word and leaf not in ("precision", "chat_template_kwargs"):
                yield BASE, [f"{target}={word}"]
    two = "model: {model_name: m}\ndata: {train: {datasets: [{dataset_name: a}, {dataset_name: b}]}}\nmodel_: 0\n".replace("model_: 0\n", "")
    for override in ["data.train.datasets[0].split=x", "data.train.datasets.1.split=x", "data.train.datasets[2].split=x",
                     "data.train.datasets[-1].split=x", "data.train.datasets.x.split=y", "data.train.datasets[0].nope=1",
                     "data.train.datasets=[{dataset_name: z}]", "data.train.datasets[0]={subset: s}", "data.train.datasets[0]=5",
                     "data.train.datasets[0]=null", "data.train.datasets=[null]", "data.train.datasets={dataset_name: z}",
                     "model.model_kwargs.a.b=1", "model.model_kwargs={a: 1}", "training.gkd.teacher_model_init_kwargs={x: 1}",
                     "training.gkd.teacher_model_init_kwargs.dtype=y", "training.run_name=", "training.output_dir=", "training.seed=",
                     "training.run_name=a=b", "training.run_name='q'", "training.run_name=a # c", "training.run_name=  p ", "training.run_name",
                     "training=5", "training={seed: 7}", "training.nope=1", "nope=1", "training.output_dir.x=1", "training.run_name=@x",
                     "training.run_name={", "training.run_name=: ", "training.run_name=-", "=5", "training..seed=1", "model[model_name]=x",
                     "training.reward_functions=[a, 1, true]", "training.reward_functions=[null]", "training.reward_functions=a,b"]:
        yield two, [override]
    for text in ["peft:", "peft: null", "peft: {}", "peft: 3", "peft: []", "model: {model_name: ???}", "training: {seed: ???}",
                 "training: {seed: 1, seed: 2}", "training: {trainer_kwargs: {a: 1, a: 2}}", "training: {trainer_kwargs: {1: 2}}",
                 "peft: &p {lora_r: 4}\ntraining:\n  trainer_kwargs:\n    <<: *p\n    b: 2",
                 "training: {output_dir: &o x, run_name: *o}", "training: {run_name: *o}", "training:\n  run_name: |\n    a\n    b",
                 "training:\n  run_name: >-\n    a\n    b", "training: {seed: !foo 5}", "training:\t{seed: 5}", "? peft\n: {lora_r: 4}",
                 "training: {trainer_kwargs: {a: {b: [1, yes, ~, 1e3, 'x', 2020-01-01]}}}", "---\npeft: {lora_r: 4}\n...\n", "peft: {lora_r: 4}\n---\nfsdp: {}",
                 "deepspeed: {offload_param: {}}", "deepspeed: {offload_param: {device: NVME}}"]:
        yield (BASE if not text.startswith(("model", "---")) else BASE.split("\n")[1] + "\n") + text if "---\nfsdp" not in text else BASE + text, []


def changed(default, value, key=""):
    """Dotted leaves of `value` that differ from `default`; lists and dict fields count as leaves."""
    out = {}
    for name, item in value.items():
        path = f"{key}.{name}" if key else name
        old = default.get(name) if isinstance(default, dict) else None
        if isinstance(item, dict) and isinstance(old, dict) and path.count(".") < 2 and "kwargs" not in path:
            out.update(changed(old, item, path))
        elif type(item) is not type(old) or item != old:
            out[path] = item
    return out


def main():
    if len(sys.argv) > 1:  # prints what OmegaConf makes of whole files
        json.dump({name: load(pathlib.Path(name).read_text()) for name in sys.argv[1:]}, sys.stdout)
        return
    default = load(BASE)
    rows = []
    seen = set()
    for text, overrides in cases():
        if (text, *overrides) in seen:
            continue
        seen.add((text, *overrides))
        try:
            rows.append([text.replace(BASE, "@", 1), overrides, changed(default, load(text, overrides))])
        except Exception as error:  # noqa: BLE001: whatever it raises, it refuses
            rows.append([text.replace(BASE, "@", 1), overrides, type(error).__name__])
    print("[")
    print(",\n".join(json.dumps(row, ensure_ascii=True) for row in rows))
    print("]")


main()
