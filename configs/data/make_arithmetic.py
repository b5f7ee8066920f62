"""Writes arithmetic_train.jsonl and arithmetic_validation.jsonl beside this file: short conversations about small numbers, in Oumi's
format. The same conversations on every machine.

    python3 configs/data/make_arithmetic.py
"""

import json
import random
from pathlib import Path


def facts():
    for n in range(100):
        yield f"What comes after {n}?", f"{n + 1} comes after {n}."
    for a in range(13):
        for b in range(13):
            yield f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."
            answer = "They are equal." if a == b else f"{max(a, b)} is greater."
            yield f"Which is greater, {a} or {b}?", answer


def conversations(draw, rounds):
    """Every fact `rounds` times, one to three of them a conversation."""
    for _ in range(rounds):
        left = list(facts())
        draw.shuffle(left)
        while left:
            count = draw.randint(1, 3)
            turns, left = left[:count], left[count:]
            yield [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn)]


def main():
    draw = random.Random(20)
    train = list(conversations(draw, 3))
    validation = list(conversations(draw, 1))[:80]
    for name, rows in (("train", train), ("validation", validation)):
        with open(Path(__file__).with_name(f"arithmetic_{name}.jsonl"), "w") as out:
            out.writelines(json.dumps({"messages": messages}) + "\n" for messages in rows)


if __name__ == "__main__":
    main()
