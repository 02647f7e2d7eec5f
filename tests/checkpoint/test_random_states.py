"""The random states of the process come back bit for bit, and looking at them draws and starts nothing."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch

from gradnb.checkpoint import random_states
from gradnb.checkpoint.errors import DamagedError


def draws() -> list[Any]:
    return [
        random.random(), random.gauss(0, 1), random.sample(range(100), 5), np.random.rand(3).tolist(),
        np.random.randn(), np.random.permutation(9).tolist(),
        torch.rand(3).tolist(), torch.randn(17).tolist(), torch.randperm(10).tolist(),
        torch.nn.functional.dropout(torch.ones(20)).tolist(),
    ]  # fmt: skip


def test_the_streams_go_on_where_they_were() -> None:
    draws()  # so that a Gaussian number is left over in each
    tree = json.loads(json.dumps(random_states.capture(), allow_nan=False))
    first = draws()
    draws()
    assert random_states.restore(tree) == [] and draws() == first
    assert len(json.dumps(tree)) < 20_000


def test_looking_at_them_draws_nothing() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    random_states.capture()
    assert draws() == first and not torch.cuda.is_initialized()


def test_what_this_machine_has_not_is_said() -> None:
    tree = random_states.capture()
    tree["cuda"] = [tree["torch"]] * (torch.cuda.device_count() + 2)
    (note,) = random_states.restore(tree)
    assert f"{torch.cuda.device_count() + 2} CUDA devices were saved, {torch.cuda.device_count()} devices are here" in note


@pytest.mark.parametrize(
    "damage", [{"python": None}, {"torch": "AAAA"}, {"torch": "?"}, {"numpy": {"of": "x"}}, {"python": {"words": "AAAA"}}]
)
def test_a_damaged_tree_is_refused(damage: dict) -> None:
    tree = random_states.capture() | damage
    with pytest.raises(DamagedError):
        random_states.restore(tree)
    random_states.restore(random_states.capture())


def test_numpy_is_left_alone_where_nobody_has_imported_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy.random")
    tree = random_states.capture()
    assert "numpy" not in tree and "numpy.random" not in sys.modules
    first = random.random(), torch.rand(2).tolist()
    assert random_states.restore(tree) == [] and (random.random(), torch.rand(2).tolist()) == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_goes_on_where_it_was() -> None:
    torch.rand(3, device="cuda")
    tree = json.loads(json.dumps(random_states.capture()))
    first = torch.rand(5, device="cuda")
    torch.rand(9, device="cuda")
    random_states.restore(tree)
    assert torch.equal(first, torch.rand(5, device="cuda"))
