"""What forward hooks see of ReLUs, tanh and sigmoid, and that they change nothing."""

from __future__ import annotations

import torch
from torch import nn

from gradnb.monitor.activations import Activations


class Seen:
    """The shares that were logged, by series."""

    def __init__(self, model: nn.Module):
        self.shares: dict[str, list[float]] = {}
        self.errors: list[BaseException] = []
        self.hooks = Activations({"": model}, self.log, self.errors.append)

    def log(self, name: str, share: float) -> None:
        self.shares.setdefault(name, []).append(share)


def test_a_unit_that_opens_for_no_input_is_dead_and_the_share_counts_units() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 1))
    with torch.no_grad():
        model[0].bias[:3] = -100.0
    seen = Seen(model)
    for _ in range(8):
        model(torch.randn(32, 4))
    assert seen.shares == {"dead:1": [0.30000001192092896]}


def test_a_look_takes_256_inputs_and_a_unit_shut_for_a_small_batch_is_not_dead() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU())
    seen = Seen(model)
    for _ in range(63):
        model(torch.randn(4, 4))
    assert seen.shares == {}
    model(torch.randn(4, 4))
    assert len(seen.shares["dead:1"]) == 1 and seen.shares["dead:1"][0] <= 0.3


def test_behind_a_convolution_the_units_are_channels_and_in_a_sequence_features() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with torch.no_grad():
        model[0].bias[0] = -100.0
    seen = Seen(model)
    model(torch.randn(256, 1, 8, 8))
    assert seen.shares == {"dead:1": [0.25]}
    sequence = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    with torch.no_grad():
        sequence[0].bias[:] = -100.0
    seen = Seen(sequence)
    sequence(torch.randn(256, 5, 4))
    assert seen.shares == {"dead:1": [1.0]}


def test_saturation_is_counted_in_hidden_tanh_and_sigmoid_but_not_in_the_last_one() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2), nn.Tanh())
    seen = Seen(model)
    model(1e4 * torch.randn(256, 4))
    assert set(seen.shares) == {"saturated:1", "saturated:3"}
    assert seen.shares["saturated:1"][0] > 0.9 and seen.shares["saturated:3"][0] < 0.1


def test_after_two_looks_a_module_rests_and_without_gradients_nobody_looks() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    seen = Seen(model)
    with torch.no_grad():
        model(torch.randn(256, 4))
    assert seen.shares == {}
    for _ in range(12):
        model(torch.randn(256, 4))
    assert len(seen.shares["dead:1"]) == 2
    model(torch.randn(256, 4))
    assert len(seen.shares["dead:1"]) == 3


def test_results_are_the_same_and_remove_leaves_no_hook() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(32, 4)
    bare = model(x)
    state = torch.get_rng_state()
    seen = Seen(model)
    assert torch.equal(model(x), bare) and torch.equal(torch.get_rng_state(), state)
    seen.hooks.remove()
    assert not any(module._forward_hooks for module in model.modules())


def test_an_error_inside_is_told_and_takes_the_hooks_away(monkeypatch) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    seen = Seen(model)
    monkeypatch.setattr("gradnb.monitor.activations._Look.at", lambda self, output: 1 / 0)
    model(torch.randn(8, 4))
    assert [type(error) for error in seen.errors] == [ZeroDivisionError]
    assert not any(module._forward_hooks for module in model.modules())


def test_a_compiled_model_keeps_its_graph_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    seen = Seen(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    compiled(torch.randn(8, 4)).sum().backward()
    assert not seen.errors
