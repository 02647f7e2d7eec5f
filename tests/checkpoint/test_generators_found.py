"""Random generators inside a data loader are found wherever users keep them, in the same order each time; nothing of the user's runs."""

from __future__ import annotations

import functools
import json
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Dataset, RandomSampler, Subset, TensorDataset

from gradnb.checkpoint.encode import pack, unpack
from gradnb.checkpoint.errors import MismatchError
from gradnb.checkpoint.items import generators
from gradnb.checkpoint.tracked import Tracked

GLOBAL = np.random.default_rng(1)
UNUSED = np.random.default_rng(2)


class Jitter:
    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def __call__(self, x: Any) -> Any:
        return x + self.rng.random()


class Slotted:
    __slots__ = ("rng", "empty")

    def __init__(self, seed: int):
        self.rng = random.Random(seed)


class Compose:
    def __init__(self, *transforms: Any):
        self.transforms = list(transforms)


class Images(Dataset):
    shared = np.random.RandomState(3)

    def __init__(self, transform: Any = None):
        self.transform = transform
        self.samples = list(range(100_000))

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> Any:
        raise AssertionError("the dataset was read")

    @property
    def trap(self) -> Any:
        raise AssertionError("a property was read")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


class UsesGlobal(Images):
    def augment(self, x: Any) -> Any:
        return x + helper()


def helper() -> float:
    return GLOBAL.random()


def loader(dataset: Any, **options: Any) -> DataLoader:
    return DataLoader(dataset, batch_size=2, **options)


def closure(seed: int) -> Any:
    rng = random.Random(seed)
    return lambda batch: (rng.random(), batch)


PLACES = {
    "an attribute of a transform": lambda: loader(Images(Jitter(5))),
    "a list of transforms": lambda: loader(Images(Compose(Jitter(5), Compose(Slotted(6))))),
    "a module of transforms": lambda: loader(Images(torch.nn.Sequential(torch.nn.Identity()).append(_module()))),
    "a nested dataset": lambda: loader(Subset(ConcatDataset([Images(Jitter(5)), Images(Jitter(6))]), [0, 1])),
    "a closure": lambda: loader(Images(), collate_fn=closure(5)),
    "a partial": lambda: loader(Images(), collate_fn=functools.partial(lambda batch, rng: batch, rng=np.random.default_rng(5))),
    "a bound method": lambda: loader(Images(), collate_fn=Jitter(5).__call__),
    "worker_init_fn": lambda: loader(Images(), worker_init_fn=closure(5)),
    "a default argument": lambda: loader(Images(_with_default(np.random.default_rng(5)))),
    "the loader's generator": lambda: loader(Images(), shuffle=True, generator=torch.Generator().manual_seed(5)),
    "a sampler": lambda: loader(Images(), sampler=RandomSampler(range(10), generator=torch.Generator().manual_seed(5))),
    "a batch sampler": lambda: DataLoader(
        Images(), batch_sampler=BatchSampler(RandomSampler(range(9), generator=torch.Generator()), 2, False)
    ),
}


def _module() -> torch.nn.Module:
    module = torch.nn.Identity()
    module.rng = np.random.default_rng(5)  # type: ignore[assignment]
    return module


def _with_default(rng: Any) -> Any:
    def transform(x: Any, rng: Any = rng) -> Any:
        return x

    return transform


def draw(generator: Any) -> float:
    return torch.rand(1, generator=generator).item() if isinstance(generator, torch.Generator) else generator.random()


@pytest.mark.parametrize("build", PLACES.values(), ids=PLACES)
def test_a_generator_is_found_and_restored_in_place(build: Any) -> None:
    one, two = build(), build()
    found, again = generators.find(one), generators.find(two)
    assert [type(each) for each in found] == [type(each) for each in again] and Images.shared in found and len(found) >= 2
    for each in found:
        draw(each)
    tree = json.loads(json.dumps(generators.capture(found)))
    expected = [draw(each) for each in found]
    generators.restore(again, tree)
    assert [draw(each) for each in again] == expected
    assert UNUSED not in found and generators.find(one) == found


def test_a_generator_of_the_module_is_found_where_the_dataset_uses_it() -> None:
    assert GLOBAL in generators.find(loader(UsesGlobal()))
    assert GLOBAL not in generators.find(loader(Images()))


def test_the_generators_of_the_process_are_left_to_the_random_states() -> None:
    class Held:
        mine = [random._inst, np.random.mtrand._rand, torch.default_generator]  # type: ignore[attr-defined]

    dataset = TensorDataset(torch.zeros(3))
    dataset.held = Held()  # type: ignore[attr-defined]
    assert generators.find(loader(dataset)) == []


def test_a_list_of_many_samples_is_not_gone_through() -> None:
    class Counting(list):
        def __iter__(self) -> Any:
            raise AssertionError("the samples were read")

    dataset, jitter = Images(), Jitter(5)
    dataset.samples = Counting([[i, {"path": str(i)}] for i in range(200_000)])
    dataset.nested = [[jitter]]  # type: ignore[attr-defined]
    begin = time.process_time()
    assert generators.find(loader(dataset)) == [Images.shared, jitter.rng]
    assert time.process_time() - begin < 0.5


def test_others_than_those_saved_are_refused_and_none_is_set() -> None:
    mine = [random.Random(1), np.random.default_rng(1)]
    tree = generators.capture([random.Random(2), np.random.Generator(np.random.MT19937(2))])
    before = mine[0].getstate()
    with pytest.raises(MismatchError, match=r"1: saved a numpy.random.Generator \(MT19937\), now a numpy.random.Generator \(PCG64\)"):
        generators.restore(mine, tree)
    with pytest.raises(MismatchError, match="held 2 random generators when it was saved, and holds 1 now"):
        generators.restore(mine[:1], tree)
    assert mine[0].getstate() == before


def test_tracked_generators_are_restored_in_place_also_in_containers() -> None:
    def build(seed: int) -> tuple[Tracked, list[Any]]:
        mine = [random.Random(seed), np.random.default_rng(seed), torch.Generator().manual_seed(seed), np.random.RandomState(seed)]
        tracked = Tracked()
        tracked.add(rng=mine[0], sampler={"rng": mine[1], "others": [mine[2]]}, old=mine[3])
        return tracked, mine

    (one, first), (two, second) = build(1), build(2)
    tree, tensors, _ = one.save()
    two.load(json.loads(json.dumps(tree)), tensors)
    assert [draw(each) for each in first] == [draw(each) for each in second]
    three, _ = build(3)
    three.add(rng=np.random.default_rng(0))
    assert three.check(tree, tensors) == ["rng: saved a random.Random, now a numpy.random.Generator (PCG64)"]


def test_a_generator_that_is_packed_alone_comes_back_as_a_new_one() -> None:
    rng = np.random.default_rng(3)
    assert unpack(*pack({"rng": rng}, "x"))["rng"].random() == rng.random()
