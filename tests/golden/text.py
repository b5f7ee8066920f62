# Reference values of oumi/text from Transformers: token ids, offsets, masks, decoded text and rendered conversations, with four small
# tokenizers that are trained here. Regenerate with:
#   python tests/golden/text.py OUMI_TEMPLATES        (transformers, tokenizers, jinja2)
# where OUMI_TEMPLATES is oumi's src/oumi/datasets/chat_templates. Writes tests/golden/text.json and tests/golden/text/*.
# It also renders the built-in templates of oumi/text/builtin_templates.cpp with Jinja and holds them against Oumi's.
import json
import pathlib
import re
import shutil
import sys

import transformers
from jinja2 import TemplateError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
OUT = HERE / "text"
OUMI = pathlib.Path(sys.argv[1])
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()

CORPUS = [
    "The lighthouse keeper wrote down the weather every morning, and every evening he read it to the gulls.",
    "She had 48 apples; she gave 12 away, then bought 7 more. How many apples does she have now?",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(f'{i}: {add(i, i ** 2)}')\n",
    "class Matrix {\n public:\n  double& at(int row, int col) { return data_[row * cols_ + col]; }\n};\n",
    "Der Fluß trägt im Frühling mehr Wasser als im Sommer; übrigens auch mehr Äste.",
    "La forêt est calme, l'été arrive déjà, et le garçon a oublié son parapluie à l'hôtel.",
    "今日は天気がいいので、公園を散歩しましょう。東京の朝は静かです。",
    "我们在图书馆学习机器学习。模型需要很多数据。",
    "Быстрая лиса прыгает через ленивую собаку, а потом спит.",
    "It's what they'd said: we'll see, you're right, I've seen it, they won't mind.",
    "Training a language model needs text, patience and a good learning rate schedule. The model learns the next token.",
    '{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}',
    "Tokens are pieces of words. Words are pieces of sentences. Sentences are pieces of stories.",
    "Numbers: 1 2 3 10 100 1000 3.14159 -273.15 1e-5 0xFF 2024-05-17.",
] * 4

TEXTS = [
    "",
    " ",
    "Hello world",
    " leading and trailing ",
    "two  spaces   three\ttab\nnewline\r\nwindows\n\n\nend",
    "It's they're we'll I'd can't WON'T",
    "def f(x):\n    if x > 0:\n        return x ** 2  # square\n    return -x\n",
    "for (int i = 0; i < n; ++i) { sum += v[i] * 0x1F; }",
    "Größe, Äpfel, façade, naïve, Ångström",
    "e\u0301 combining, \ufb01 ligature, \u2126 ohm, \uff21 wide",
    "今日は、世界！机器学习 모델 한국어",
    "Съешь же ещё этих мягких французских булок",
    "emoji 😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ end",
    "مرحبا بالعالم שלום עולם",
    "zero\u200bwidth non\u00a0breaking \u3000ideographic",
    "The lighthouse keeper read 12345 numbers, 3.14 and 1,000,000.",
    "<s> special </s> inside <pad> text [CLS] and [SEP] <|endoftext|> here<unk>",
    "a<|endoftext|>b<s>c[MASK]d",
    "call   <tool> xyzzy and plugh, not xyzzyx or plughs",
    "\u2581underscore \u2581 block",
    "tabs\tand\x0bvertical\x0cform\x1funit",
    "x" * 60,
    "https://example.org/path?query=1&other=two#frag",
    "Tokens are pieces of words. " * 3,
]


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def bytelevel():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    train(t, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    # As larger models have it: a token that swallows the space on its left, one that is a word, and a normal added one.
    t.add_tokens([AddedToken("<tool>", lstrip=True, normalized=False), AddedToken("xyzzy", single_word=True), AddedToken("plugh", normalized=True)])
    return t, dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", extra_special_tokens=["<|im_start|>", "<|im_end|>"], model_max_length=512)


def sentencepiece_bpe():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = t.normalizer
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    train(trained, trainers.BpeTrainer(vocab_size=700, special_tokens=special, limit_alphabet=60, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    t.model = models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    t.add_special_tokens(["<unk>", "<s>", "</s>"])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left")


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    train(t, trainers.UnigramTrainer(vocab_size=500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", t.token_to_id("</s>"))])
    return t, dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=256)


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(t, trainers.WordPieceTrainer(vocab_size=450, special_tokens=special, show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))]
    )
    return t, dict(unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]", clean_up_tokenization_spaces=True)


def byte_offsets(text, offsets):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[a], at[b]] for a, b in offsets]


def encodings(tokenizer):
    rows = []
    for text in TEXTS:
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        full = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        rows.append({
            "ids": plain, "with_special": full["input_ids"], "offsets": byte_offsets(text, full["offset_mapping"]), "special": full["special_tokens_mask"],
            "decoded": tokenizer.decode(full["input_ids"]), "decoded_skipping": tokenizer.decode(full["input_ids"], skip_special_tokens=True),
        })
    return rows


CHATS = {
    "user": [{"role": "user", "content": "Hello!"}],
    "turns": [{"role": "user", "content": "  What is 2+2? "}, {"role": "assistant", "content": "\n4\n"}, {"role": "user", "content": "And 3+3?"}],
    "system": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "日本の首都は？"}, {"role": "assistant", "content": "東京です。 😀"}],
    "two_assistants": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d\u00e9f"}],
    "wrong_order": [{"role": "assistant", "content": "I start."}, {"role": "user", "content": "No."}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " Look: "}, {"type": "image"}, {"type": "text", "content": "what is it?"}]}, {"role": "assistant", "content": "A cat."}],
}
OUMI_NAMES = sorted(p.stem for p in OUMI.glob("*.jinja"))
QWEN2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
STRINGS_ONLY = {"chat_ml", "default", "default_gen", "gemma2-it", "gpt2", "zephyr", "qwen2-instruct"}


def oumi_template(name):
    """As Oumi loads it: every line stripped, then joined."""
    if name == "qwen2-instruct":
        return QWEN2.replace("\n", "\\n")
    return "".join(line.strip() for line in (OUMI / f"{name}.jinja").read_text().splitlines() if line.strip())


def our_templates():
    source = (HERE.parent.parent / "oumi/text/builtin_templates.cpp").read_text()
    bodies = dict(re.findall(r'const std::string (k\w+) = R"\((.*?)\)";', source, re.DOTALL))
    return {name: bodies[variable] for name, variable in re.findall(r'\{"([\w-]+)", (k\w+),', source)}


def render(tokenizer, template, messages, **kwargs):
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **kwargs)
    except TemplateError:
        return None


def builtin_chats(tokenizer):
    ours, rows = our_templates(), []
    names = OUMI_NAMES + ["qwen2-instruct"]
    assert sorted(ours) == sorted(names), set(ours) ^ set(names)
    for name in names:
        for chat, messages in CHATS.items():
            if chat == "parts" and name in STRINGS_ONLY:
                continue
            for prompt in (False, True):
                text = render(tokenizer, oumi_template(name), messages, add_generation_prompt=prompt)
                again = render(tokenizer, ours[name], messages, add_generation_prompt=prompt)
                assert text == again, (name, chat, text, again)
                rows.append({"template": name, "chat": chat, "add_generation_prompt": prompt, "text": text})
    return rows


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a <city> & more", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Köln"]}, "days": {"type": "integer", "default": 3}, "exact": {"type": "boolean", "default": True}, "limit": {"type": "number", "default": 1e-07}}, "required": ["city"]}}}]
TOOL_CHAT = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Weather in Köln?"},
    {"role": "assistant", "content": None, "reasoning_content": "I should call.\n", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2, "exact": False, "limit": 1.0}}}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "{\"rain\": true}"},
    {"role": "assistant", "content": "<think>\nrain\n</think>\n\nIt rains."},
    {"role": "user", "content": "Thanks"},
]

# What templates of published models do, feature by feature. Rendered with TOOL_CHAT and TOOLS.
FEATURES = {
    "tojson": "{{ tools | tojson }}|{{ tools[0].function.parameters | tojson(indent=2) }}|{{ '<a> & \"q\" é \\u2028' | tojson }}|{{ {'b': 1, 'a': [1.5, true, none]} | tojson(sort_keys=True, separators=(',', ':')) }}|{{ 'é😀' | tojson(ensure_ascii=True) }}",
    "tool_calls": "{%- for m in messages %}{%- if m.tool_calls %}{%- for c in m.tool_calls %}{{ '<tool_call>' + (c.function | tojson) + '</tool_call>' }}{{ c.function.arguments.items() | list | length }}{%- for k, v in c.function.arguments | items %}[{{ k }}={{ v }}]{%- endfor %}{%- endfor %}{%- endif %}{%- endfor %}",
    "loop_controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% if loop.index0 > 3 %}{% break %}{% endif %}{{ loop.index }}{{ m.role }};{% endfor %}",
    "namespace": "{% set ns = namespace(last=-1, found=false) %}{% for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{% if not ns.found and m.role == 'user' %}{% set ns.found = true %}{% set ns.last = index %}{% endif %}{% endfor %}{{ ns.last }} {{ ns.found }}",
    "whitespace": "{% if true %}\n  line\n  {% if true %}\n    nested\n  {% endif %}\n{% endif %}\n  {{ 'x' }}  \n  {# comment #}\n{%- set a = 1 -%}\n  y {%- if a %} z {% endif -%}  w\n",
    "methods": "{% set t = '  Ab c,d  ' %}[{{ t.strip() }}][{{ t.lstrip() }}][{{ t.rstrip() }}][{{ t.upper() }}][{{ t.lower() }}][{{ t.strip().title() }}][{{ t.strip().capitalize() }}][{{ t.split(',') }}][{{ t.replace(' ', '_') }}][{{ t.startswith('  A') }}][{{ t.endswith('x') }}][{{ 'a-b-c'.split('-', 1) }}][{{ '-'.join(['x', 'y']) }}][{{ 'abc'.find('c') }}][{{ 'xxabxx'.strip('x') }}][{{ '{}:{}'.format('k', 3) }}][{{ 'banana'.count('an') }}][{{ 'a b  c'.split() }}]",
    "reasoning": "{% for m in messages %}{% if m.role == 'assistant' %}{% set content = m.content if m.content is string else '' %}{% set thought = '' %}{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in content %}{% set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}<{{ thought }}|{{ content }}>{% endif %}{% endfor %}",
    "tests": "{{ messages is iterable }} {{ messages is sequence }} {{ messages is mapping }} {{ messages[0] is mapping }} {{ 'x' is string }} {{ 3 is number }} {{ none is none }} {{ nothing is defined }} {{ nothing is undefined }} {{ true is boolean }} {{ 3 is integer }} {{ 3 is odd }} {{ 'a' in 'abc' }} {{ 'role' in messages[0] }} {{ 'x' is iterable }} {{ {} is sequence }} {{ none is iterable }} {{ nothing is iterable }} {{ 3 is iterable }}",
    "printing": "{{ true }} {{ none }} {{ 1.0 }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 8 }} {{ [1, 'a', none, true, {'k': 'v'}] }} {{ ('t', 1) }} {{ 'a' ~ 1 ~ true ~ none }} {{ nothing }} {{ -3 | abs }} {{ 1e20 }} {{ 1e-07 | string }} {{ 'it\\'s' }} {{ ['it\\'s', 'q\"'] }}",
    "filters": "{{ messages | map(attribute='role') | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join(',') }} {{ [3, 1, 2] | sort }} {{ [1, 2, 3] | last }} {{ 'abc' | first }} {{ nothing | default('d') }} {{ '' | default('e', true) }} {{ 'a\nb' | indent(2) }} {{ [1, 2] | length }} {{ 'Word' | lower }} {{ {'b': 2, 'a': 1} | dictsort }} {{ '3' | int + 1 }} {{ [1, 2, 2] | unique | list }} {{ 'abc' | reverse }} {{ [[1, 'x'], [2, 'y']] | map('first') | list }} {{ 3.7 | round }} {{ 'x' | string }} {{ 5 | string + 'y' }}",
    "macros": "{% macro field(name, value='none', last=false) %}{{ name }}={{ value }}{% if not last %}, {% endif %}{% endmacro %}{{ field('a', 1) }}{{ field('b', last=true) }}{% set block %}kept {{ messages | length }}{% endset %}[{{ block }}]{% filter upper %}loud{% endfilter %}",
    "scopes": "{% set x = 'outer' %}{% for i in range(2) %}{% set x = 'inner' %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 'if' %}{% endif %}{{ x }}{% for i in [] %}{% else %}empty{% endfor %}{% for a, b in [(1, 2), (3, 4)] if a > 1 %}{{ a }}{{ b }}{{ loop.first }}{{ loop.last }}{% endfor %}{% for r in range(1, 10, 3) %}{{ r }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "expressions": "{{ 'yes' if tools is not none and tools else 'no' }} {{ documents is none }} {{ (1, 2) + (3,) }} {{ [1] + [2] }} {{ 'ab' * 2 }} {{ messages[-1].content }} {{ messages[0]['content'][:2] }} {{ not false and (1 < 2) }} {{ messages[1:3] | length }} {{ 'x' if false }} {{ 1 == 1.0 }} {{ 'b' > 'a' }} {{ messages[0].get('name', 'unnamed') }} {{ messages[0].keys() | list }} {{ {'a': {'b': 'deep'}}.a['b'] }} {{ bos_token }}{{ eos_token }}",
    "generation": "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content or 'called' }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    "generation_space": "{%- for m in messages %}\n    {%- if m.role == 'assistant' %}\n        {%- generation %}\n        {{- m.content }}\n        {%- endgeneration %}\n    {%- else %}\n{{ m.content }}\n    {%- endif %}\n{%- endfor %}",
    "raw": "{% raw %}{{ kept }} {% generation %}{% endraw %}{{ '{% generation %}' }}{# {% generation %} #}",
    "newlines": "a\r\nb{{ 'c' }}\r\n{% if true %}\r\nd\r\n{% endif %}\r\n",
    "raise": "{% for m in messages %}\n{% if m.role == 'tool' %}{{ raise_exception('no tools: ' + m.role) }}{% endif %}\n{% endfor %}",
}


def feature_rows(tokenizer):
    rows = []
    for name, template in FEATURES.items():
        for prompt in (False, True):
            rows.append({"name": name, "template": template, "add_generation_prompt": prompt, "text": render(tokenizer, template, TOOL_CHAT, tools=TOOLS, add_generation_prompt=prompt)})
    return rows


def masked_chats(tokenizer, skip):
    """Ids and assistant masks of apply_chat_template, with our own generation template and Oumi's. Transformers masks nothing from where
    a span begins with a space that no token covers: those are left out."""
    rows = []
    for template in (oumi_template("default_gen"), FEATURES["generation"]):
        for chat, messages in CHATS.items():
            if chat == "parts" or (chat in skip and template == FEATURES["generation"]):
                continue
            out = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
            rows.append({"template": template, "chat": chat, "ids": out["input_ids"], "mask": out["assistant_masks"]})
    return rows


golden = {"texts": TEXTS, "chats": CHATS, "tool_chat": TOOL_CHAT, "tools": TOOLS, "kinds": {}}
for build in (bytelevel, sentencepiece_bpe, unigram, wordpiece):
    name = build.__name__
    backend, arguments = build()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **arguments).save_pretrained(OUT / name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(OUT / name)
    golden["kinds"][name] = {
        "encodings": encodings(tokenizer), "size": len(tokenizer), "special_tokens": tokenizer.special_tokens_map, "padding_side": tokenizer.padding_side,
        "model_max_length": tokenizer.model_max_length if tokenizer.model_max_length < 1e15 else None, "masked": masked_chats(tokenizer, ["turns"] if name == "wordpiece" else []),
    }
    for path in (OUT / name).glob("*.json"):  # compact: the files are read by programs
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))
    if name == "bytelevel":
        golden["builtin"] = builtin_chats(tokenizer)
        golden["features"] = feature_rows(tokenizer)
        model = json.loads(backend.to_str())["model"]
        pair = OUT / "vocab_and_merges"
        pair.mkdir()
        (pair / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
        (pair / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in model["merges"]) + "\n")
        gpt2 = transformers.GPT2Tokenizer.from_pretrained(pair)
        golden["gpt2"] = {"ids": [gpt2(text)["input_ids"] for text in TEXTS], "size": len(gpt2), "special_tokens": gpt2.special_tokens_map}

# Arguments that change what is loaded.
for name, kwargs in {"bos_eos": dict(add_bos_token=True, add_eos_token=True), "pad": dict(pad_token="<|pad|>"), "extra": dict(extra_special_tokens=["<x>", "lighthouse"])}.items():
    t = transformers.AutoTokenizer.from_pretrained(OUT / "bytelevel", **kwargs)
    golden.setdefault("kwargs", []).append({"kwargs": kwargs, "size": len(t), "ids": t("the lighthouse <x> keeper").input_ids, "special_tokens": t.special_tokens_map})
(HERE / "text.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
