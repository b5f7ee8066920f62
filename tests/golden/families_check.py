"""Loads folders that oumi saved in Transformers: no missing or unexpected key, and the logits of tests/golden/families.py.

    OUMI_SAVE_FAMILIES=/tmp/saved build/release/tests/oumi_models_test --gtest_filter='*SavedFolder*'
    python tests/golden/families_check.py /tmp/saved
"""
import sys
from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "families"


def check(folder):
    golden = load_file(GOLDEN / folder.name / "check.safetensors")
    model, info = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    problems = {k: v for k, v in info.items() if v}
    ids, mask = golden["input_ids"], golden["attention_mask"]
    worst = 0.0
    with torch.no_grad():
        for i in range(2):
            logits = model.eval()(input_ids=ids[i], attention_mask=mask[i]).logits
            worst = max(worst, (logits - golden["logits"][i]).abs()[mask[i].bool()].max().item())
    good = not problems and worst < 1e-4
    print(f"{'ok ' if good else 'BAD'} {folder.name}: worst logit difference {worst:.1e}; {problems or 'all keys match'}")
    return good


if __name__ == "__main__":
    results = [check(folder) for folder in sorted(Path(sys.argv[1]).iterdir())]
    sys.exit(0 if results and all(results) else 1)
