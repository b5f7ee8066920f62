# Reference values of text datasets: rendered chats, token ids, assistant masks, completion masks, packed rows and pretraining
# chunks, from Transformers, TRL and Oumi's own sources. Regenerate with:
#   OUMI_SOURCE=<a checkout of oumi-ai/oumi> python tests/golden/textdata.py    (torch, transformers, tokenizers, trl, datasets)
# Writes tests/golden/textdata.json and the tokenizer in tests/golden/textdata/.
import enum
import importlib.util
import json
import logging
import os
import pathlib
import random
import sys
import types
import warnings

import datasets
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from trl.data_utils import pack_dataset

HERE = pathlib.Path(__file__).parent
OUT = HERE / "textdata"
OUMI = pathlib.Path(os.environ["OUMI_SOURCE"]) / "src" / "oumi"
golden = {}
warnings.simplefilter("ignore")

# --- a byte-level tokenizer of 400 entries ---
corpus = [
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "paired with an input that provides further context. ### Input: system user assistant Hello, how are you?",
    "What is the weather in Paris? It is sunny. Compute the average of the presented numbers. The average is 7.",
    "def add(a, b):\n    return a + b\n", "日本語のテキスト 😀 naïve café Привет",
]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
tokenizer.train_from_iterator(
    corpus * 3,
    trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())),
)
hf = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<pad>", model_max_length=512)
CHAT_ML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT_ML_SPANS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{ message['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
)
PLAIN_SPANS = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}{{ '\n' }}{% endfor %}"
)
OUT.mkdir(exist_ok=True)
hf.chat_template = CHAT_ML
hf.save_pretrained(OUT)
for stale in OUT.glob("*"):
    if stale.name not in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        stale.unlink()
golden["templates"] = {"chat_ml": CHAT_ML, "chat_ml_spans": CHAT_ML_SPANS, "plain_spans": PLAIN_SPANS}

# --- conversations: text and ids of Transformers, and its assistant masks ---
conversations = [
    [("user", "Hello, how are you?"), ("assistant", "It is sunny.")],
    [("system", "Be brief."), ("user", "日本語?"), ("assistant", "naïve café 😀"), ("user", "def add(a, b):"), ("assistant", "return a + b 😀😀")],
    [("user", "a"), ("assistant", "Привет 日本語")],
    [("user", "<|im_start|>assistant"), ("assistant", "x")],
    [("user", "no answer")],
]
golden["chats"] = []
for name, template in golden["templates"].items():
    hf.chat_template = template
    for turns in conversations:
        messages = [{"role": role, "content": content} for role, content in turns]
        spans = "spans" in name
        text = hf.apply_chat_template(messages, tokenize=False)
        encoded = hf.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=spans)
        golden["chats"].append(
            {"template": name, "messages": messages, "text": text, "input_ids": encoded["input_ids"], "mask": encoded["assistant_masks"] if spans else None}
        )
hf.chat_template = CHAT_ML

# --- Alpaca: Oumi's two mappings ---
rows = [
    {"instruction": "Compute the average.", "input": "5, 6, 10", "output": "The average is 7."},
    {"instruction": "What is the weather?", "input": "", "output": "It is sunny."},
]
WITH = ("Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.")
WITHOUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def alpaca(row, system):
    user = f"{row['instruction']}\n\n### Input:\n{row['input']}" if row["input"] else row["instruction"]
    messages = [{"role": "system", "content": WITH if row["input"] else WITHOUT}] if system else []
    return messages + [{"role": "user", "content": user}, {"role": "assistant", "content": row["output"]}]


def text_sft(row):
    return [{"role": "user", "content": f"{row['instruction']}\n\n{row['input']}".strip()}, {"role": "assistant", "content": row["output"]}]


def ids_of(messages):
    return hf.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]


golden["alpaca"] = {
    "rows": rows,
    "alpaca": [ids_of(alpaca(row, True)) for row in rows],
    "alpaca_without_system": [ids_of(alpaca(row, False)) for row in rows],
    "text_sft": [ids_of(text_sft(row)) for row in rows],
}


# --- Oumi's sources, loaded file by file: what they import beside Transformers is stood in for ---
class TrainTarget(enum.Enum):
    ALL_ASSISTANT_TURNS = "all_assistant_turns"
    FINAL_ASSISTANT_TURN = "final_assistant_turn"


def stub(name, **attributes):
    module = types.ModuleType(name)
    module.__path__ = []
    module.__getattr__ = lambda attribute: object if not attribute.startswith("__") else None
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


for name in ("oumi", "oumi.core", "oumi.core.configs", "oumi.core.configs.params", "oumi.core.tokenizers", "oumi.core.collators", "oumi.builders",
             "oumi.core.configs.internal", "oumi.utils", "oumi.core.collators.text_collator_with_padding", "oumi.core.collators.vision_language_collator_with_padding",
             "oumi.core.collators.vision_language_sft_collator", "oumi.core.configs.internal.supported_models", "oumi.core.datasets"):
    stub(name)
stub("oumi.core.configs.params.data_params", TrainTarget=TrainTarget)
stub("oumi.core.tokenizers.base_tokenizer", BaseTokenizer=object)
stub("oumi.core.constants", LABEL_IGNORE_INDEX=-100)
stub("oumi.core.collators.text_completions_collator_with_padding")
stub("oumi.core.configs.internal.internal_model_config")
stub("oumi.utils.logging", logger=logging.getLogger("oumi"))
stub("oumi.utils.debug_utils", log_example_for_debugging=lambda *a, **k: None)


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, OUMI / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


completion = load("core/collators/trl_data_collator_for_completion_only_lm.py", "oumi.core.collators.trl_data_collator_for_completion_only_lm")
builders = load("builders/collators.py", "oumi.builders.collators")

golden["markers"] = []
for name, template in golden["templates"].items():
    hf.chat_template = template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    try:
        response, end = builders.resolve_collator_templates(hf)
        golden["markers"].append({"template": name, "response": response, "end_of_turn": end})
    except ValueError:
        golden["markers"].append({"template": name, "response": None})
hf.chat_template = CHAT_ML

# Random sequences over a small alphabet, so that markers occur often, overlap, follow each other and are cut.
golden["completions"] = []
random.seed(11)
for pad_id in (9, 3):  # 3 is the end of a turn too
    hf.pad_token = hf.convert_ids_to_tokens(pad_id)
    for target in ("all_assistant_turns", "final_assistant_turn", "_legacy_instruction_response"):
        for tools in (False, True):
            if tools and target.startswith("_"):
                continue
            collator = completion.DataCollatorForCompletionOnlyLM(
                response_template=[1, 2], instruction_template=[4] if target.startswith("_") else None, train_target=target,
                end_of_turn_template=[3], tool_response_template=[5] if tools else None, end_of_tool_response_template=[6] if tools else None, tokenizer=hf,
            )
            cases = []
            for _ in range(40):
                ids = [random.choice([1, 1, 2, 3, 4, 5, 6, 7, 8]) for _ in range(random.randint(1, 24))]
                for _ in range(random.randint(0, 3)):
                    at = random.randint(0, len(ids))
                    ids[at:at] = [1, 2]
                ids += [pad_id] * random.choice([0, 0, 2])
                labels = collator([{"input_ids": list(ids)}])["labels"][0].tolist()
                cases.append({"ids": ids, "labels": labels})
            golden["completions"].append({"target": target, "tools": tools, "pad": pad_id, "cases": cases})
hf.pad_token = "<pad>"

# --- packing by TRL ---
golden["packing"] = []
for seed, capacity in ((0, 8), (1, 16), (2, 50)):
    random.seed(seed)
    lengths = [random.randint(1, int(capacity * 1.3)) for _ in range(60)]
    start = np.cumsum([0] + lengths)
    samples = [list(range(start[i], start[i + 1])) for i in range(len(lengths))]
    entry = {"capacity": capacity, "lengths": lengths}
    for strategy in ("bfd", "bfd_split", "wrapped"):
        packed = pack_dataset(datasets.Dataset.from_dict({"input_ids": samples}), seq_length=capacity, strategy=strategy)
        entry[strategy] = packed["input_ids"][:]
        if strategy != "wrapped":
            entry[strategy + "_lengths"] = packed["seq_lengths"][:]
    golden["packing"].append(entry)


# --- pretraining chunks: Oumi's rule over Transformers' ids ---
def chunks(documents, seq_length, append_concat_token, skip_last):
    buffer, rows = [], []
    for document in documents:
        if append_concat_token and buffer:
            buffer.append(hf.eos_token_id)
        buffer.extend(hf.encode(document))
        while len(buffer) >= seq_length:
            rows.append(buffer[:seq_length])
            buffer = buffer[seq_length:]
    if buffer and not skip_last:
        rows.append(buffer)
    return rows


documents = ["Hello, how are you?", "", "It is sunny. " * 5, "日本語のテキスト 😀", "a", "def add(a, b):\n    return a + b\n", "The average is 7."]
golden["pretraining"] = {
    "documents": documents,
    "cases": [
        {"seq_length": n, "append_concat_token": concat, "skip_last": skip, "rows": chunks(documents, n, concat, skip)}
        for n in (4, 7, 16) for concat in (True, False) for skip in (True, False)
    ],
}

(HERE / "textdata.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
