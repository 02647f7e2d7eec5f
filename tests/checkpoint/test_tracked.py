"""What is tracked comes back exactly, in place, all or nothing; what cannot is said."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tracking import equal, load, net, saved, tracking, train, weights

from gradnb.checkpoint.errors import DamagedError, MismatchError
from gradnb.checkpoint.tracked import Tracked
from gradnb.errors import UsageError


def test_averages_scalers_and_nested_containers_of_things_are_restored() -> None:
    def build(seed: int) -> dict[str, Any]:
        models = {"actor": net(seed), "critic": net(seed + 10)}
        optimizers = [torch.optim.Adam(each.parameters()) for each in models.values()]
        ema = AveragedModel(models["actor"], multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        return {
            "models": models,
            "optimizers": optimizers,
            "ema": ema,
            "scaler": torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2),
        }

    def step(things: dict[str, Any], seed: int) -> None:
        for model, optimizer in zip(things["models"].values(), things["optimizers"]):
            optimizer.zero_grad()
            things["scaler"].scale(model(torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))).square().mean()).backward()
            things["scaler"].step(optimizer)
        things["scaler"].update()
        things["ema"].update_parameters(things["models"]["actor"])

    one, two = build(0), build(1)
    for seed in range(3):
        step(one, seed)
    state = saved(tracking(**one))
    load(tracking(**two), state)
    for seed in range(3, 6):
        step(one, seed), step(two, seed)
    assert all(equal(weights(one["models"][key]), weights(two["models"][key])) for key in one["models"])
    assert equal(weights(one["ema"]), weights(two["ema"])) and one["scaler"].state_dict() == two["scaler"].state_dict()


def test_containers_arrays_and_tensors_are_restored_in_place() -> None:
    def build() -> dict[str, Any]:
        return {
            "losses": [], "history": {"train": [], "best": {"step": 0}}, "seen": set(), "recent": deque(maxlen=3), "counts": Counter(),
            "table": np.zeros((2, 3)), "running": torch.zeros(3), "log_alpha": torch.zeros(1, requires_grad=True),
            "groups": defaultdict(lambda: [0]),
            "prompt": nn.Parameter(torch.zeros(2)), "raw": bytearray(), "slots": [[], {"a": torch.zeros(2)}, None],
        }  # fmt: skip

    one, two = build(), build()
    one["losses"] += [0.1, math.nan, 3]
    one["history"]["train"] += [(1, 2.0)]
    one["history"]["best"] |= {"step": 7, 3: "three"}
    one["seen"].add("a")
    one["recent"].extend(range(5))
    one["counts"].update("aab")
    one["table"] += 0.5
    one["running"] += 2
    one["log_alpha"].data += 3
    one["groups"]["x"].append(1)
    one["prompt"].data += 4
    one["raw"].extend(b"xy")
    one["slots"][0].append(5), one["slots"][1]["a"].add_(6)
    inner = [two["history"]["train"], two["history"]["best"], two["slots"][0], two["slots"][1]["a"]]
    held = dict(two)
    load(tracking(**two), saved(tracking(**one)))
    assert all(held[key] is two[key] for key in held)
    assert repr({k: v for k, v in one.items() if k != "groups"}) == repr({k: v for k, v in two.items() if k != "groups"})
    assert two["groups"] == {"x": [0, 1]} and two["groups"]["new"] == [0]
    assert inner[0] is two["history"]["train"] and inner[1] is two["history"]["best"] and inner[2] is two["slots"][0]
    assert inner[3] is two["slots"][1]["a"] and inner[3].tolist() == [6, 6]


def test_a_list_that_stands_in_two_places_stays_one_unless_two_were_saved() -> None:
    def build() -> tuple[list, Tracked]:
        row = [torch.zeros(1)]
        return row, tracking(table={"a": row, "b": row}, rows=[row, row])

    row, tracked = build()
    row.append(torch.tensor(math.nan))
    mine, other = build()
    load(other, saved(tracked))
    table = mine[1:] and saved(other)[0]["things"]["table"]
    assert len(mine) == 2 and table == saved(tracked)[0]["things"]["table"]

    apart = tracking(table={"a": [torch.zeros(1)], "b": [torch.ones(1)]}, rows=[[1], [2]])
    _, other = build()
    things: dict[str, Any] = {"table": {}, "rows": []}
    other.add(**things)
    shared: list[int] = []
    things["rows"] += [shared, shared]
    load(other, saved(apart))
    assert things["rows"] == [[1], [2]] and [each[0].item() for each in things["table"].values()] == [0, 1]


def test_plain_values_live_in_a_namespace() -> None:
    tracked = tracking(best=0.0, name="run", pair=(1, None))
    assert tracked.values.best == 0.0 and repr(tracked.values) == "Values(best=0.0, name='run', pair=(1, None))"
    tracked.values.best = np.float32(0.5)
    other = tracking(best=0.0, name="", pair=None, later=3)
    assert load(other, saved(tracked)) == ["not in the checkpoint, begins with the value given: later"]
    assert other.values.best == np.float32(0.5) and type(other.values.best) is np.float32 and other.values.pair == (1, None)
    with pytest.raises(AttributeError, match=r"'worst' is tracked, only best, name, pair\. Track it first: ckpt.track\(worst=...\)"):
        tracked.values.worst = 1
    with pytest.raises(UsageError, match="not something of type list"):
        tracked.values.best = []


def test_what_cannot_be_tracked_is_refused_and_nothing_is_added() -> None:
    class Half:
        def state_dict(self) -> dict:
            return {}

    for thing, word in (
        (lambda: 0, "a function"),
        (object(), "state_dict"),
        (Half(), "only one of"),
        (nn.Linear, "the class Linear"),
        (([],), "tuple"),
    ):
        tracked = Tracked()
        with pytest.raises(UsageError, match=word) as raised:
            tracked.add(best=1, thing=thing)
        assert "'thing'" in str(raised.value) and len(tracked) == 0
    with pytest.raises(UsageError, match="underscore"):
        Tracked().add(_hidden=1)
    with pytest.raises(UsageError, match=r"tracked 'history'\[1\]\['f'\] is a function"):
        tracking(history=[1, {"f": len}]).save()


def test_every_difference_is_listed_and_nothing_is_touched() -> None:
    model, log = net(0), [1]
    optimizer = torch.optim.AdamW(model.parameters())
    state = saved(tracking(model=model, optimizer=optimizer, log=[9], gone=[], kind=[1]))
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5).half(), nn.Linear(1, 1))
    before = weights(other)
    tracked = tracking(model=other, optimizer=torch.optim.SGD(other.parameters()), log=log, new=[], kind=3)
    found = tracked.check(*state)
    assert found == [
        "gone: in the checkpoint, not tracked now",
        "model.4.weight: in the module now, not in the checkpoint",
        "model.4.bias: in the module now, not in the checkpoint",
        "model.3.weight: saved 3x8 float32, now 5x8 float16",
        "model.3.bias: saved 3 float32, now 5 float16",
        "optimizer: saved a AdamW, now a SGD",
        "new: tracked now, not in the checkpoint",
        "kind: saved as a value restored in place, now it is a plain value",
    ]
    with pytest.raises(MismatchError, match="nothing was loaded") as raised:
        load(tracked, state)
    assert all(text in str(raised.value) for text in found)
    assert log == [1] and equal(weights(other), before)


def test_a_long_list_of_differences_is_cut_with_a_count() -> None:
    def wide(width: int) -> nn.Module:
        return nn.Sequential(*[nn.Linear(width, width) for _ in range(21)])

    with pytest.raises(MismatchError, match="and 32 more") as raised:
        load(tracking(model=wide(2)), saved(tracking(model=wide(3))))
    assert str(raised.value).count("saved") == 1 + 10


class Choosy:
    """Loads half, then raises."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict:
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["value"]
        if self.value == 3:
            raise KeyError("three")


class ChoosyModule(nn.Linear):
    def set_extra_state(self, state: Any) -> None:
        if state == 3:
            raise KeyError("three")

    def get_extra_state(self) -> Any:
        return self.value


@pytest.mark.parametrize("raises", ["thing", "module"])
def test_a_load_that_fails_half_way_leaves_all_as_it_was(raises: str) -> None:
    def build(value: int) -> dict[str, Any]:
        model, choosy, module = net(value), Choosy(), ChoosyModule(2, 2)
        module.value = value if raises == "module" else 0
        choosy.value = value if raises == "thing" else 0
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, range(value))
        return {"first": [value], "model": model, "optimizer": optimizer, "choosy": choosy, "module": module}

    state = saved(tracking(**build(3)))
    mine = build(1)
    tracked = tracking(**mine)
    before = saved(tracked)
    with pytest.raises(
        MismatchError, match=f"^{'choosy' if raises == 'thing' else 'module'} could not take up its saved state.*KeyError: 'three'"
    ):
        load(tracked, state)
    after = saved(tracked)
    assert after[0] == before[0] and after[1].keys() == before[1].keys()
    assert all(torch.equal(tensor, after[1][name]) for name, tensor in before[1].items())


def test_an_interrupted_load_leaves_all_as_it_was() -> None:
    class Slow(Choosy):
        def load_state_dict(self, state: dict) -> None:
            raise KeyboardInterrupt

    first, second = [1], [2]
    tracked = tracking(a=nn.Linear(1, 1), first=first, slow=Slow())
    other = tracking(a=nn.Linear(1, 1), first=second, slow=Slow())
    before = saved(other)
    with pytest.raises(KeyboardInterrupt):
        load(other, saved(tracked))
    assert saved(other)[0] == before[0] and second == [2]


@pytest.mark.parametrize("damage", ["no things", "no state", "no tensor", "wrong kind", "words"])
def test_a_damaged_tree_is_refused_before_anything_is_touched(damage: str) -> None:
    model = net(0)
    tracked = tracking(model=model, optimizer=torch.optim.SGD(model.parameters()), log=[1])
    tree, tensors = saved(tracked)
    if damage == "no things":
        tree = {}
    elif damage == "no state":
        del tree["things"]["model"]["state"]
    elif damage == "no tensor":
        tensors.popitem()
    elif damage == "wrong kind":
        tree["things"]["log"] = ["value"]
    else:
        tree["things"]["optimizer"]["groups"] = "words"
    before = weights(model)
    with pytest.raises((DamagedError, MismatchError)):
        load(tracked, (tree, tensors))
    assert equal(weights(model), before)


def test_names_may_be_given_to_new_things() -> None:
    tracked = tracking(model=net(0), best=1)
    tracked.add(model=net(1), best=[2])
    assert len(tracked) == 2 and list(tracked.values) == [] and saved(tracked)[0]["things"]["best"]["state"] == [2]
