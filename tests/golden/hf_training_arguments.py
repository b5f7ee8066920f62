"""Writes the names of transformers' TrainingArguments to tests/golden/hf_training_arguments.json.

With transformers 5.23.0 (and torch, which it wants) installed, from the repository's root:
    python tests/golden/hf_training_arguments.py
"""

import dataclasses
import json
import pathlib

import transformers

names = [field.name for field in dataclasses.fields(transformers.TrainingArguments) if field.init]
target = pathlib.Path(__file__).with_suffix(".json")
target.write_text(json.dumps({"transformers": transformers.__version__, "arguments": names}, indent=1) + "\n")
print(len(names), "names")
