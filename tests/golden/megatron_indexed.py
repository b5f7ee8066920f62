# Indexed datasets as Megatron-Core writes them. Regenerate with:
#   pip install --no-deps --target SITE megatron-core==0.13.1 && PYTHONPATH=SITE python tests/golden/megatron_indexed.py    (torch, numpy)
# Writes tests/golden/megatron_indexed/NAME.bin and NAME.idx, and their documents to tests/golden/megatron_indexed.json.
# With arguments PREFIX TEXT, checks instead that Megatron reads PREFIX.bin and PREFIX.idx as the documents in the JSON list TEXT.
import json
import pathlib
import sys

import numpy as np
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

HERE = pathlib.Path(__file__).parent


def read(prefix):
    dataset = IndexedDataset(str(prefix))
    bounds = dataset.document_indices
    sequences = [dataset[i].astype(np.int64).tolist() for i in range(len(dataset))]
    return [sum(sequences[begin:end], []) for begin, end in zip(bounds[:-1], bounds[1:])]


def write(name, dtype, documents):
    """documents: of sequences, as preprocess_data.py adds them"""
    builder = IndexedDatasetBuilder(str(HERE / "megatron_indexed" / f"{name}.bin"), dtype=dtype)
    for sequences in documents:
        builder.add_document(sum(sequences, []), [len(sequence) for sequence in sequences])
    builder.finalize(str(HERE / "megatron_indexed" / f"{name}.idx"))


if len(sys.argv) == 3:
    found, expected = read(sys.argv[1]), json.loads(sys.argv[2])
    assert found == expected, (found, expected)
    print(f"{len(found)} documents, as expected")
    sys.exit(0)

(HERE / "megatron_indexed").mkdir(exist_ok=True)
plain = [[[5, 6, 7, 1]], [], [[65499, 1]], [[9, 8, 7, 6, 5, 4, 3, 2, 1]], [[0]]]
write("uint16", DType.optimal_dtype(65499), plain)
write("int32", DType.optimal_dtype(65500), plain)
sentences = [[[1, 2], [3, 4, 5], [6]], [], [[7], [8, 9, 10, 11]], [[12, 13]]]
small = ["uint8", "int8", "int16", "int64", "float64", "float32"]
for name in small:
    write(name, getattr(np, name), sentences)
golden = {"writer": "megatron-core 0.13.1", "documents": {name: read(HERE / "megatron_indexed" / name) for name in ["uint16", "int32", *small]}}
assert golden["documents"]["uint16"] == [sum(sequences, []) for sequences in plain]
(HERE / "megatron_indexed.json").write_text(json.dumps(golden) + "\n")
