"""Which slot is written next, and which checkpoints live."""

from __future__ import annotations

import math
import random

import pytest

from gradnb.checkpoint import slots
from gradnb.checkpoint.model import Manifest


def manifest(slot: int, serial: int, **metrics: float) -> Manifest:
    return Manifest(slot, serial, serial * 10, None, None, metrics, "every", 0.0, (), {})


def test_files_stand_in_their_slot_and_shared_ones_by_themselves() -> None:
    assert slots.place(3, "rank1.json") == "slot-3.rank1.json"
    assert slots.place(3, "shared-0011223344556677.safetensors") == "shared-0011223344556677.safetensors"
    assert slots.split("slot-3.rank1.json") == (3, "rank1.json")
    assert [
        slots.split(name) for name in ("slot-03.json", "slot-3", "slots-3.json", "slot-3.json.bak~", "my slot-3.json", "slot--1.json")
    ] == [None] * 6


def test_the_newest_by_serial_live_whatever_the_order() -> None:
    three = [manifest(0, 7), manifest(1, 9), manifest(2, 8)]
    assert [one.serial for one in slots.keep(three, 2)] == [9, 8]


@pytest.mark.parametrize(
    ("mode", "values", "winner"),
    [
        ("max", [0.1, 0.9, 0.5], 2),
        ("min", [0.1, 0.9, 0.5], 1),
        ("max", [0.9, 0.9, 0.9], 1),  # ties: the older stays
        ("min", [0.9, 0.9, 0.9], 1),
        ("max", [math.nan, 0.2, math.nan], 2),
        ("min", [math.nan, 0.2, math.nan], 2),
        ("max", [None, 0.2, None], 2),
        ("max", [-math.inf, math.nan, None], 1),
        ("max", [math.nan, None, math.nan], None),
    ],
)
def test_the_best_stays(mode: str, values: list[float | None], winner: int | None) -> None:
    saved = [manifest(slot, slot + 1, **({} if value is None else {"accuracy": value})) for slot, value in enumerate(values)]
    random.Random(0).shuffle(saved)
    best = slots.best(saved, ("accuracy", mode))
    assert (best and best.serial) == winner
    living = {one.serial for one in slots.keep([*saved, manifest(5, 9)], 1, ("accuracy", mode))}
    assert living == {9} | ({winner} if winner else set())


def test_a_slot_without_a_good_checkpoint_is_taken_before_an_old_one_and_that_before_a_new_one() -> None:
    assert slots.choose([], 2) == 0
    assert slots.choose([manifest(0, 1)], 2) == 1
    assert slots.choose([manifest(0, 1), manifest(1, 2)], 2) == 2
    assert slots.choose([manifest(0, 1), manifest(1, 2), manifest(2, 3)], 2) == 0
    assert slots.choose([manifest(0, 1), manifest(2, 3), manifest(3, 4)], 2) == 1


def test_a_pinned_slot_is_never_chosen() -> None:
    three = [manifest(0, 1), manifest(1, 2), manifest(2, 3)]
    assert slots.choose(three, 2, pinned={0}) == 3
    assert slots.choose(three, 2, pinned={0, 3}) == 4
    assert slots.choose([], 1, pinned={0, 1}) == 2


@pytest.mark.parametrize("keep_last", [1, 2, 5])
@pytest.mark.parametrize("keep_best", [None, ("accuracy", "max")])
def test_a_long_run_never_writes_over_what_lives_and_uses_a_fixed_set_of_slots(keep_last: int, keep_best: tuple[str, str] | None) -> None:
    randomly, there = random.Random(keep_last), {}
    for serial in range(1, 300):
        slot = slots.choose(there.values(), keep_last, keep_best)
        assert slot not in {one.slot for one in slots.keep(there.values(), keep_last, keep_best)}
        there[slot] = manifest(slot, serial, accuracy=randomly.choice([0.1, 0.5, math.nan, randomly.random()]))
    assert set(there) <= set(range(slots.count(keep_last, keep_best)))
    assert len(slots.keep(there.values(), keep_last, keep_best)) in (keep_last, keep_last + 1)
