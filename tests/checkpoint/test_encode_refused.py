"""What a checkpoint cannot hold is refused with its place; a tree that is not ours is called damaged, and runs nothing."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from gradnb.checkpoint.encode import pack, unpack
from gradnb.checkpoint.errors import DamagedError
from gradnb.errors import UsageError


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Options:
    lr: float = 0.1


class Loud(dict):
    pass


REFUSED = [
    (lambda: 0, "a function"),
    (Colour.RED, ".value"),
    (Options(), "asdict"),
    (Options, "the class Options"),
    (Loud(a=1), "plain type"),
    (namedtuple("Point", "x y")(1, 2), "plain type"),
    (torch.empty(3, device="meta"), "meta"),
    (torch.nn.LazyLinear(3).weight, "lazy"),
    (np.ma.masked_array([1]), "MaskedArray"),
    (defaultdict(lambda: 0), "factory"),
    (iter([]), "list_iterator"),
]


@pytest.mark.parametrize("value, word", REFUSED, ids=[word for _, word in REFUSED])
def test_what_cannot_be_saved_is_refused_with_its_place(value: Any, word: str) -> None:
    with pytest.raises(UsageError) as raised:
        pack([1, 2, {"callback": value}], "history")
    assert "tracked 'history'[2]['callback']" in str(raised.value) and word in str(raised.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(UsageError, match="contains itself"):
        pack(loop, "loop")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UsageError, match="too deep"):
        pack(deep, "deep")


HOSTILE = [
    {"~": "os.system", "of": "true"},
    {"~": ["list"]},
    {"~": None},
    {"~": "tensor", "name": "none"},
    {"~": "tensor", "name": ["x"]},
    {"~": "tensor"},
    {"~": "tensor", "name": "x", "stride": [10**12, 1]},
    {"~": "tensor", "name": "x", "stride": [-1, 2]},
    {"~": "tensor", "name": "x", "expand": [5, 5, 5]},
    {"~": "tensor", "name": "x", "dtype": "load"},
    {"~": "tensor", "name": "x", "device": "no such"},
    {"~": "sparse", "layout": "sparse_coo", "shape": [1], "indices": {"name": "x"}, "values": {"name": "x"}, "coalesced": True},
    {"~": "sparse", "layout": "hub", "shape": [1]},
    {"~": "dtype", "of": "load"},
    {"~": "layout", "of": "nn"},
    {"~": "defaultdict", "of": [], "factory": "eval"},
    {"~": "dict", "of": [[[], 1]]},
    {"~": "dict", "of": 3},
    {"~": "set", "of": [{}]},
    {"~": "int", "hex": "zz"},
    {"~": "bytes", "base64": "?"},
    {"~": "float", "bits": "00"},
    {"~": "array", "shape": [2], "dtype": "|O8", "name": "x"},
    {"~": "array", "shape": [10**12], "dtype": "<f4", "name": "x"},
    {"~": "array", "shape": [1], "dtype": [["a", "O"]], "name": "x"},
    {"~": "scalar", "dtype": "O", "base64": ""},
    {"~": "numbers", "name": "x"},
    {"~": "range", "of": [1, 2, 0]},
    {"~": "datetime", "of": [1], "zone": None, "fold": 0},
    {"~": "deque", "of": [], "maxlen": "a"},
    {"~": "generator", "of": "os.Generator"},
    {"~": "generator", "of": "numpy.random.Generator", "state": {"bit_generator": "test"}},
    {"~": "generator", "of": "random.Random", "version": 3, "words": "AAAA", "gauss": None},
    {"~": "generator", "of": "torch.Generator", "device": "cpu", "bytes": "AAAA"},
]


@pytest.mark.parametrize("tree", HOSTILE, ids=lambda tree: json.dumps(tree)[:60])
def test_a_tree_that_is_not_ours_is_called_damaged(tree: Any) -> None:
    with pytest.raises(DamagedError):
        unpack([tree], {"x": torch.ones(2, 2)})


def test_a_tree_that_is_nested_without_end_is_called_damaged() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DamagedError):
        unpack(deep, {})
