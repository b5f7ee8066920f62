# Reference values of the data folder: orders of NumPy and Hugging Face Datasets, PyTorch's interpolation, Pillow's pixels,
# and small files in each format. Regenerate with:
#   python tests/golden/data.py        (numpy, torch, datasets, pyarrow, pillow)
# Writes tests/golden/data.json and tests/golden/data/*.
import json
import pathlib

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import ReadInstruction
from PIL import Image

HERE = pathlib.Path(__file__).parent
OUT = HERE / "data"
OUT.mkdir(exist_ok=True)
golden = {}
# Fingerprints serve caches alone, and computing them pickles tables, which some pyarrow versions cannot.
datasets.disable_caching()
datasets.arrow_dataset.generate_fingerprint = lambda dataset: "0"

# Seeds of one and of two 32-bit words.
golden["permutation"] = [
    {"seed": s, "n": n, "order": np.random.default_rng(s).permutation(n).tolist()}
    for s in (0, 1, 42, 2**32 + 7, 2**63 + 12345)
    for n in (0, 1, 2, 7, 100)
]
rng = np.random.default_rng(3)
golden["random"] = {"seed": 3, "values": rng.random(5).tolist()}
golden["randperm"] = {"seed": 7, "order": torch.randperm(20, generator=torch.Generator().manual_seed(7)).tolist()}


def numbered(n, base=0):
    return datasets.Dataset.from_dict({"x": list(range(base, base + n))})


def sampled(dataset, count, shuffle, seed):
    """Oumi's rule for sample_count, stated with the operations of Datasets."""
    if count is None:
        return dataset.shuffle(seed) if shuffle else dataset
    if count <= len(dataset):
        return (dataset.shuffle(seed) if shuffle else dataset).take(count)
    parts = [dataset] * (count // len(dataset))
    rest = count % len(dataset)
    if rest:
        parts.append((dataset.shuffle(seed) if shuffle else dataset).take(rest))
    joined = datasets.concatenate_datasets(parts)
    return joined.shuffle(seed) if shuffle else joined


golden["sampling"] = [
    {"size": n, "count": c, "shuffle": sh, "seed": 11, "order": sampled(numbered(n), c, sh, 11)["x"][:]}
    for n, c in ((10, None), (10, 4), (10, 10), (10, 25), (3, 9), (5, 0))
    for sh in (False, True)
]
golden["interleave"] = []
for sizes, probabilities in (((5, 50, 5), (0.1, 0.4, 0.5)), ((7, 3), (0.5, 0.5)), ((4, 6, 5), (0.0, 0.3, 0.7))):
    for strategy in ("first_exhausted", "all_exhausted"):
        if strategy == "all_exhausted" and 0.0 in probabilities:
            continue  # refused
        for seed in (1, 2, 42):
            parts, base = [], 0
            for size in sizes:
                parts.append(numbered(size, base))
                base += size
            mixed = datasets.interleave_datasets(parts, probabilities=list(probabilities), seed=seed, stopping_strategy=strategy)
            entry = {"sizes": sizes, "probabilities": probabilities, "strategy": strategy, "seed": seed, "order": mixed["x"][:]}
            if 0.0 not in probabilities:
                streams = [part.to_iterable_dataset() for part in parts]
                stream = datasets.interleave_datasets(streams, probabilities=list(probabilities), seed=seed, stopping_strategy=strategy)
                entry["stream"] = [row["x"] for row in stream]
            golden["interleave"].append(entry)

golden["splits"] = []
for text in ("train", "train[:90%]", "train[10%:]", "train[33%:66%]", "train[-10%:]", "train[100:200]", "train[-500:]", "train[:-3]",
             "train[5:2]", "train[:0]", "train[1_000:]", "train[50%:50%]", "train[:100%]"):
    for n in (1, 5, 7, 50, 205, 60000):
        ranges = [(i.from_, i.to) for i in ReadInstruction.from_spec(text).to_absolute({"train": n})]
        golden["splits"].append({"split": text, "size": n, "range": ranges[0]})

generator = torch.Generator().manual_seed(0)
image = torch.rand(2, 5, 7, generator=generator)
golden["resize"] = {"image": image.tolist(), "cases": []}
for mode in ("bilinear", "bicubic", "nearest"):
    for antialias in (False, True):
        if mode == "nearest" and antialias:
            continue
        for size in ((3, 4), (9, 8)):
            out = torch.nn.functional.interpolate(image[None], size=size, mode=mode, antialias=antialias)[0]
            golden["resize"]["cases"].append({"mode": mode, "antialias": antialias, "size": size, "out": out.tolist()})

# --- files ---
r = np.random.default_rng(0)
images = r.integers(0, 256, (6, 4, 3), dtype=np.uint8)
np.savez_compressed(
    OUT / "mixed.npz",
    images=images,
    floats=np.asfortranarray(r.random((6, 2, 3))),
    big=np.arange(6, dtype=">i4") - 3,
    small=np.arange(6, dtype="<i2"),
    wide=np.array([0, 1, 2, 3, 4, 2**32 - 1], dtype="<u4"),
    flags=np.array([1, 0, 1, 1, 0, 0], dtype=bool),
    labels=np.arange(6, dtype=np.int64) % 3,
    split=np.array(["train", "train", "validation", "train", "test", "train"]),
)
with np.load(OUT / "mixed.npz") as z:
    golden["npz"] = {k: z[k].tolist() for k in z.files}

columns = {
    "id": list(range(10)),
    "score": [i / 4 for i in range(10)],
    "tokens": [list(range(i % 4)) for i in range(10)],
    "pair": [[i, i + 1] for i in range(10)],
    "grid": [[[i, 1], [2, 3]] for i in range(10)],
    "name": [["cat", "dog", "eel"][i % 3] for i in range(10)],
}
golden["table"] = columns
table = pa.table(columns)
pq.write_table(table, OUT / "table.parquet", row_group_size=4)
with pa.ipc.new_file(OUT / "table.arrow", table.schema) as writer:
    for batch in table.to_batches(max_chunksize=3):
        writer.write_batch(batch)
with open(OUT / "table.jsonl", "w") as f:
    for i in range(10):
        f.write(json.dumps({k: v[i] for k, v in columns.items()}) + "\n")
features = datasets.Features({"x": datasets.Value("int32"), "label": datasets.ClassLabel(names=["no", "yes"])})
saved = datasets.DatasetDict(
    train=datasets.Dataset.from_dict({"x": [1, 2, 3], "label": [0, 1, 1]}, features=features),
    test=datasets.Dataset.from_dict({"x": [9], "label": [0]}, features=features),
)
saved.save_to_disk(OUT / "saved")

base = r.integers(0, 256, (5, 6, 4), dtype=np.uint8)
golden["pictures"] = {}
pictures = {
    "gray.png": Image.fromarray(base[..., 0]),
    "rgb.png": Image.fromarray(base[..., :3]),
    "rgba.png": Image.fromarray(base),
    "palette.png": Image.fromarray(base[..., :3]).quantize(8),
    "bit.png": Image.fromarray(base[..., 0]).convert("1"),
    "gray_alpha.png": Image.fromarray(base[..., :2]),
    "rgb.jpg": Image.fromarray(np.kron(base[..., :3], np.ones((4, 4, 1), np.uint8))),
    "gray.jpg": Image.fromarray(np.kron(base[..., 0], np.ones((4, 4), np.uint8))),
}
for name, picture in pictures.items():
    picture.save(OUT / name)
    with Image.open(OUT / name) as opened:
        golden["pictures"][name] = {
            "L": np.asarray(opened.convert("L")).flatten().tolist(),
            "RGB": np.asarray(opened.convert("RGB")).transpose(2, 0, 1).flatten().tolist(),
        }

(HERE / "data.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
