"""Writes arithmetic_train.jsonl and arithmetic_validation.jsonl beside this file: short conversations about small numbers, in Oumi's
format. The same numbers on every machine.

    python3 configs/data/make_arithmetic.py
"""

import json
import random
from pathlib import Path


def conversation(draw):
    kind = draw.randrange(3)
    if kind == 0:
        n = draw.randrange(100)
        return f"What comes after {n}?", f"{n + 1} comes after {n}."
    a, b = draw.randrange(13), draw.randrange(13)
    if kind == 1:
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
    if a == b:
        return f"Which is greater, {a} or {b}?", "They are equal."
    return f"Which is greater, {a} or {b}?", f"{max(a, b)} is greater."


def main():
    draw = random.Random(20)
    for name, count in (("train", 640), ("validation", 80)):
        with open(Path(__file__).with_name(f"arithmetic_{name}.jsonl"), "w") as out:
            for _ in range(count):
                question, answer = conversation(draw)
                out.write(json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}) + "\n")


if __name__ == "__main__":
    main()
