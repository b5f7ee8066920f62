"""Golden orders of samplers and loaders, from PyTorch, accelerate and transformers.

Regenerate: python tests/golden/data_order.py > tests/golden/data_order.json
(torch 2.11.0, accelerate 1.15.0, transformers 5.23.0)
"""

import itertools
import json
import sys

import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from transformers.trainer_pt_utils import get_length_grouped_indices


def generator(seed):
    return torch.Generator().manual_seed(seed)


def loaders():
    """Batches of every rank for shuffled epochs: [n, batch, world, drop_last, even, split, epoch, seed, [rank -> batches]]."""
    cases = []
    sizes = [0, 1, 2, 3, 5, 7, 8, 12, 13]
    for n, batch, world, drop_last, even, split in itertools.product(
        sizes, [1, 2, 4], [1, 2, 3, 4], [False, True], [False, True], [False, True]
    ):
        if split and (batch % world or world == 1):
            continue
        if world == 1 and not even:
            continue
        epoch, seed = (n + batch) % 3, 42 + world
        ranks = []
        for rank in range(world):
            if n == 0:  # RandomSampler refuses an empty dataset
                sampler = SequentialSampler(range(0))
            else:
                sampler = SeedableRandomSampler(range(n), data_seed=seed)
                sampler.set_epoch(epoch)
            batches = BatchSampler(sampler, batch, drop_last)
            if world > 1:
                batches = BatchSamplerShard(batches, world, rank, split_batches=split, even_batches=even)
            ranks.append([list(b) for b in batches])
        cases.append([n, batch, world, drop_last, even, split, epoch, seed, ranks])
    return cases


def varying():
    """A batch sampler with batches of varying size, sharded: [inner batches, world, even, [rank -> batches]]."""

    class Varying(BatchSampler):
        def __init__(self, batches):
            self.batches = batches

        def __iter__(self):
            return iter([list(b) for b in self.batches])

        def __len__(self):
            return len(self.batches)

    cases = []
    all_batches = [[0], [1, 2], [3, 4, 5], [6], [7, 8, 9, 10]]
    for count, world, even in itertools.product([0, 1, 2, 3, 5], [2, 3, 4], [False, True]):
        inner = all_batches[:count]
        ranks = [list(BatchSamplerShard(Varying(inner), world, r, even_batches=even)) for r in range(world)]
        cases.append([inner, world, even, ranks])
    return cases


def large():
    """Large permutations: [n, seed, epoch, the first eight, a polynomial of all of it]."""
    cases = []
    for n, seed, epoch in [(60000, 42, 0), (60000, 42, 3), (1000003, 0, 1), (17, 2**63 + 11, 2)]:
        sampler = SeedableRandomSampler(range(n), data_seed=seed)
        sampler.set_epoch(epoch)
        order = list(sampler)
        digest = 0
        for index in order:
            digest = (digest * 1000003 + index) % 2147483647
        cases.append([n, seed, epoch, order[:8], digest])
    return cases


def torch_samplers():
    """Two epochs each from one generator."""
    cases = []

    def add(kind, args, sampler):
        cases.append([kind, args, [list(sampler), list(sampler)]])

    for n, count, replacement in [(10, None, False), (10, 4, False), (10, 25, False), (10, 10, True), (7, 70, True), (1, 1, False)]:
        add("random", [n, count, replacement], RandomSampler(range(n), replacement, count, generator(5)))
    add("subset", [[4, 9, 2, 7, 7]], SubsetRandomSampler([4, 9, 2, 7, 7], generator(6)))
    weights = [0.1, 0.9, 0.0, 4.0, 3.0, 0.6]
    add("weighted", [weights, 9, True], WeightedRandomSampler(weights, 9, True, generator(7)))
    add("weighted", [weights, 5, False], WeightedRandomSampler(weights, 5, False, generator(8)))
    return cases


def distributed():
    """[n, world, shuffle, drop_last, seed, epoch, [rank -> indices]]."""
    cases = []
    for n, world, shuffle, drop_last in itertools.product([1, 2, 7, 8, 9], [1, 2, 3, 4], [False, True], [False, True]):
        ranks = []
        for rank in range(world):
            sampler = DistributedSampler(range(n), world, rank, shuffle, 3, drop_last)
            sampler.set_epoch(2)
            ranks.append(list(sampler))
        cases.append([n, world, shuffle, drop_last, 3, 2, ranks])
    return cases


def length_grouped():
    """[lengths, batch size, mega_batch_mult, seed, order]."""
    cases = []
    for n, batch, mult in [(1, 4, None), (5, 8, None), (40, 2, None), (97, 4, None), (97, 4, 3), (30, 7, 1), (300, 1, None)]:
        lengths = torch.randint(1, 12, (n,), generator=generator(n)).tolist()  # many ties
        order = get_length_grouped_indices(lengths, batch, mult, generator(n + 1))
        cases.append([lengths, batch, mult, n + 1, order])
    return cases


parts = [loaders, varying, large, torch_samplers, distributed, length_grouped]
lines = [f' "{part.__name__}": [\n' + ",\n".join("  " + json.dumps(c, separators=(",", ":")) for c in part()) + "\n ]" for part in parts]
sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
