"""The numbers of the history against plain float64 arithmetic, in the loops that users write."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from witness import batch, grads, layer, mlp, norm, same, series

import gradnb

STEPS = 6


def test_norms_of_layers_are_those_of_float64() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, last, whole = [], [], []
    with gradnb.watch(model, optimizer) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            first.append(layer(model[0]))
            last.append(layer(model[4]))
            whole.append(grads(model))
            optimizer.step()
    same(monitor, "0", first)
    same(monitor, "4", last)
    assert series(monitor, "global_norm") == pytest.approx(whole, rel=1e-6)
    assert "clipped_norm" not in monitor.history.series
    assert monitor.history.steps == [1, 2, 3, 4, 5, 6]
    assert series(monitor, "lr") == [0.1] * STEPS


def test_weight_norm_update_ratio_and_zeros_are_those_of_float64() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    x, y = batch(size=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    weight, update, zeros = [], [], []
    with gradnb.watch(model, updates=True) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            own = list(model[0].parameters())
            old = [parameter.detach().clone() for parameter in own]
            zeros.append(sum(int((p.grad == 0).sum()) for p in own) / sum(p.numel() for p in own))
            weight.append(norm(old))
            optimizer.step()
            update.append(norm(new.double() - was.double() for new, was in zip(own, old)) / weight[-1])
    same(monitor, "0", weight, "weight")
    same(monitor, "0", update, "update", rel=1e-5)
    same(monitor, "0", zeros[:3], "zeros")
    assert 0 < zeros[0] < 1


def test_by_default_the_dear_columns_are_sampled() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model) as monitor:
        for _ in range(160):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            optimizer.step()
    often = [1, 2, 3, *range(10, 101, 10), 150]
    assert [step for step, _ in monitor.history.of("0", "update")] == often
    assert [step for step, _ in monitor.history.of("0", "weight")] == often
    assert [step for step, _ in monitor.history.of("0", "zeros")] == [1, 2, 3, 50, 100, 150]
    assert [step for step, _ in monitor.history.of("0")] == list(range(1, 161))


def test_clipping_shows_the_norm_before_and_after() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, after, first = [], [], []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (10 * (model(x) - y).pow(2).mean()).backward()
            before.append(grads(model))
            first.append(layer(model[0]))
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            after.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(before, rel=1e-6)
    assert series(monitor, "clipped_norm") == pytest.approx(after, rel=1e-6)
    same(monitor, "0", first)  # what backward gave, not what clipping left


def test_clipping_by_value_and_of_a_part_of_the_model() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, after = [], []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (10 * (model(x) - y).pow(2).mean()).backward()
            before.append(grads(model))
            nn.utils.clip_grad_value_(model[4].parameters(), 0.01)
            after.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(before, rel=1e-6)
    assert series(monitor, "clipped_norm") == pytest.approx(after, rel=1e-6)
    assert before != pytest.approx(after, rel=1e-3)


@pytest.mark.parametrize("to_none", [True, False])
def test_accumulated_gradients_are_measured_when_they_are_whole(to_none: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected, clipped = [], []
    with gradnb.watch(model) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad(set_to_none=to_none)
            for part in range(4 if step < 4 else 2):  # the last groups are smaller
                x, y = batch(10 * step + part)
                ((model(x) - y).pow(2).mean() / 4).backward()
            expected.append(grads(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            clipped.append(grads(model))
            optimizer.step()
    measured = dict(monitor.history.series["global_norm"])
    # The first smaller group was not expected: what it was before clipping is not known, and is not made up.
    assert 5 not in measured
    assert [measured[step] for step in (1, 2, 3, 4, 6)] == pytest.approx([*expected[:4], expected[5]], rel=1e-6)
    assert series(monitor, "clipped_norm") == pytest.approx(clipped, rel=1e-6)


def test_a_smaller_last_group_without_clipping_is_measured_at_the_step() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradnb.watch(model) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad()
            for part in range(4 if step != 4 else 1):
                x, y = batch(10 * step + part)
                (model(x) - y).pow(2).mean().backward()
            expected.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


def test_every_tenth_step_is_numbered_as_the_optimizer_counts() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradnb.watch(model, every=10) as monitor:
        for step in range(35):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            if step % 10 == 0:
                expected.append(grads(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    assert monitor.history.steps == [1, 11, 21, 31]
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


def test_several_optimizers_form_one_row() -> None:
    torch.manual_seed(0)
    agent, critic = nn.Linear(6, 4), nn.Linear(6, 1)
    x, y = batch()
    optimizers = [torch.optim.SGD(agent.parameters(), lr=0.1), torch.optim.Adam(critic.parameters(), lr=0.01)]
    a, c = [], []
    with gradnb.watch({"agent": agent, "critic": critic}) as monitor:
        for _ in range(STEPS):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (agent(x).pow(2).mean() + (critic(x) - y).pow(2).mean()).backward()
            a.append(grads(agent))
            c.append(grads(critic))
            for optimizer in optimizers:
                optimizer.step()
    same(monitor, "agent", a)
    same(monitor, "critic", c)
    assert monitor.history.steps == list(range(1, STEPS + 1))
    assert series(monitor, "lr") == [0.1] * STEPS and series(monitor, "lr.1") == [0.01] * STEPS
    assert series(monitor, "global_norm") == pytest.approx([(p * p + q * q) ** 0.5 for p, q in zip(a, c)], rel=1e-6)


def test_one_backward_pass_for_several_optimizers_with_clipping() -> None:
    torch.manual_seed(0)
    agent, critic = nn.Linear(6, 4), nn.Linear(6, 1)
    x, y = batch()
    optimizers = [torch.optim.SGD(agent.parameters(), lr=0.1), torch.optim.Adam(critic.parameters(), lr=0.01)]
    c, whole = [], []
    with gradnb.watch({"agent": agent, "critic": critic}, optimizers) as monitor:
        for _ in range(STEPS):
            for optimizer in optimizers:
                optimizer.zero_grad()
            (agent(x).pow(2).mean() + (critic(x) - y).pow(2).mean()).backward()
            c.append(grads(critic))
            nn.utils.clip_grad_norm_([*agent.parameters(), *critic.parameters()], 0.1)
            whole.append((grads(agent) ** 2 + grads(critic) ** 2) ** 0.5)
            for optimizer in optimizers:
                optimizer.step()
    same(monitor, "critic", c)
    assert series(monitor, "clipped_norm") == pytest.approx(whole, rel=1e-6)


def test_an_optimizer_that_takes_the_place_of_another_begins_a_new_row() -> None:
    model = mlp()
    x, y = batch()
    expected = []
    with gradnb.watch(model) as monitor:
        for rate in (0.1, 0.1, 0.01, 0.01):
            optimizer = torch.optim.SGD(model.parameters(), lr=rate)  # anew each time, as some loops do
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            expected.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


def test_a_model_that_no_optimizer_holds_shows_the_gradients_it_gets() -> None:
    torch.manual_seed(0)
    agent, forgotten = nn.Linear(6, 6), nn.Linear(6, 1)
    x, y = batch()
    optimizer = torch.optim.SGD(agent.parameters(), lr=0.1)
    expected = []
    with gradnb.watch({"agent": agent, "forgotten": forgotten}) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (forgotten(agent(x)) - y).pow(2).mean().backward()
            expected.append(grads(forgotten))  # grows: nobody clears it
            optimizer.step()
    same(monitor, "forgotten", expected)
    assert [one.held for one in monitor.history.layers] == [True, False]


def gan(steps: int, monitors: int) -> tuple[list, list[float], list[float]]:
    torch.manual_seed(0)
    generator, critic = (
        nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6)),
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)),
    )
    of_g, of_c = torch.optim.Adam(generator.parameters(), lr=0.01), torch.optim.Adam(critic.parameters(), lr=0.01)
    watching = (
        [gradnb.watch(generator), gradnb.watch(critic)] if monitors == 2 else [gradnb.watch({"generator": generator, "critic": critic})]
    )
    g, c = [], []
    for step in range(steps):
        real, _ = batch(step)
        of_c.zero_grad()
        fake = generator(torch.randn(16, 3))
        (critic(fake.detach()).mean() - critic(real).mean()).backward()
        c.append(grads(critic))
        of_c.step()
        of_g.zero_grad()
        (-critic(fake).mean()).backward()  # leaves gradients in the critic, too
        g.append(grads(generator))
        of_g.step()
    for monitor in watching:
        monitor.stop()
    return watching, g, c


def test_a_gan_with_two_monitors() -> None:
    (of_g, of_c), g, c = gan(STEPS, 2)
    assert series(of_g, "global_norm") == pytest.approx(g, rel=1e-6)
    assert series(of_c, "global_norm") == pytest.approx(c, rel=1e-6)
    assert of_g.history.steps == of_c.history.steps == list(range(1, STEPS + 1))


def test_a_gan_with_one_monitor() -> None:
    (monitor,), g, c = gan(STEPS, 1)
    for name, expected in (("generator", g), ("critic", c)):
        rows = zip(monitor.history.steps, monitor.history.column("norm"))
        measured = [norm(torch.tensor(v) for v, one in zip(row, monitor.history.layers) if one.model == name) for _, row in rows]
        assert measured == pytest.approx(expected, rel=1e-6), name
    assert monitor.history.steps == list(range(1, STEPS + 1))


def test_sparse_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens = torch.tensor([[1, 2, 2, 7], [1, 9, 2, 3]])  # the same row several times
    expected, zeros = [], []
    with gradnb.watch(model, updates=True) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(tokens).pow(2).mean().backward()
            expected.append(layer(model[0]))
            zeros.append(float((model[0].weight.grad.to_dense() == 0).double().mean()))
            optimizer.step()
    same(monitor, "0", expected)
    same(monitor, "0", zeros[:3], "zeros")
    assert zeros[0] == 0.9


def test_tied_weights_count_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 6)
            self.mix = nn.Linear(6, 6)
            self.head = nn.Linear(6, 20, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.mix(self.embed(tokens)))

    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tokens = torch.randint(20, (4, 5))
    expected, whole = [], []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
            expected.append(layer(model.embed))
            whole.append(grads(model))
            optimizer.step()
    assert [one.name for one in monitor.history.layers] == ["embed", "mix"]
    same(monitor, "embed", expected)
    assert series(monitor, "global_norm") == pytest.approx(whole, rel=1e-6)


def test_an_lbfgs_step_shows_the_gradient_it_ended_with() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - y).pow(2).mean()
        loss.backward()
        return loss

    expected = []
    with gradnb.watch(model, optimizer) as monitor:
        for _ in range(4):
            optimizer.step(closure)
            expected.append(grads(model))
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert monitor.history.steps == [1, 2, 3, 4]


def test_gradients_that_are_set_by_hand() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            loss = (model(x) - y).pow(2).mean()
            for parameter, grad in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
                parameter.grad = 3 * grad
            expected.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert "clipped_norm" not in monitor.history.series


def test_gradients_that_are_replaced_after_backward() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, after = [], []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            before.append(grads(model))
            for parameter in model.parameters():
                parameter.grad = parameter.grad.sign()
            after.append(grads(model))
            optimizer.step()
    assert series(monitor, "global_norm") == pytest.approx(before, rel=1e-6)
    assert series(monitor, "clipped_norm") == pytest.approx(after, rel=1e-6)


@pytest.mark.parametrize("clear", ["none", "zero_"])
def test_training_without_any_optimizer(clear: str) -> None:
    model = mlp()
    x, y = batch()
    expected = []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            (model(x) - y).pow(2).mean().backward()
            expected.append(grads(model))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
                    if clear == "none":
                        parameter.grad = None
                    else:
                        parameter.grad.zero_()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


def test_a_parameter_that_is_unfrozen_later_is_taken_up_at_its_first_step() -> None:
    model = mlp()
    model[0].requires_grad_(False)
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradnb.watch(model) as monitor:
        for step in range(2 * STEPS):
            if step == STEPS:
                model[0].requires_grad_(True)
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            expected += [layer(model[0])] if step >= STEPS else []
            optimizer.step()
    assert [one.name for one in monitor.history.layers] == ["2", "4", "0"]
    same(monitor, "0", expected)
    assert monitor.history.of("0")[0][0] == STEPS + 1
    assert [(step, kind) for step, kind, _ in monitor.history.events if kind == "unfrozen"] == [(STEPS + 1, "unfrozen")]


def test_a_module_that_is_added_later_with_a_group_of_its_own() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with gradnb.watch(model) as monitor:
        for step in range(STEPS):
            if step == 2:
                model.append(nn.Linear(1, 1))
                optimizer.add_param_group({"params": list(model[5].parameters()), "lr": 0.5})
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            expected += [layer(model[5])] if step >= 2 else []
            optimizer.step()
    same(monitor, "5", expected)
    assert monitor.history.series["lr.1"] == [(step, 0.5) for step in range(3, STEPS + 1)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.complex64, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(40, 40, dtype=dtype))
    plain = nn.Parameter(torch.randn(40))
    model = nn.Module()
    model.inner = nn.ParameterDict({"weight": weight, "plain": plain})
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    expected = []
    with gradnb.watch(model) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (((weight.to(torch.complex64) if dtype.is_complex else weight.float()).abs() ** 2 * 60).sum() + plain.pow(2).sum()).backward()
            expected.append(grads(model))
            optimizer.step()
    assert expected[0] > 1000
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_gradients_beyond_the_squares_of_float32_are_not_rounded_to_zero_or_infinity(size: float) -> None:
    model = nn.Linear(6, 1)
    x, _ = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-30)
    expected = []
    with gradnb.watch(model) as monitor:
        for _ in range(2):
            optimizer.zero_grad()
            (model(x).mean() * size).backward()
            expected.append(grads(model))
            optimizer.step()
    assert 0 < expected[0] < float("inf")
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-5, abs=0.0)


def test_nan_is_counted_where_it_is() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradnb.watch(model) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            if step == 2:
                model[2].weight.grad[:3, 0] = float("nan")
                model[2].bias.grad[0] = float("inf")
            optimizer.step()
    clipped = series(monitor, "clipped_norm")
    assert len(clipped) == 1 and clipped[0] != clipped[0]
    with gradnb.watch(model) as monitor:
        optimizer.zero_grad()
        (model(x) * torch.tensor(float("nan"))).sum().backward()
        optimizer.step()
    assert monitor.history.of("4", "bad") == [(1, 9.0)]
    assert [(step, kind) for step, kind, _ in monitor.history.events if kind == "nan"] == [(1, "nan")]


def test_a_missing_gradient_is_zero_and_counted() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model) as monitor:
        for _ in range(2):
            optimizer.zero_grad()
            (model[4](model[:4](x).detach()) - y).pow(2).mean().backward()
            optimizer.step()
    assert monitor.history.of("0") == [(1, 0.0), (2, 0.0)]
    assert monitor.history.of("0", "missing") == [(1, 2.0), (2, 2.0)]
    assert monitor.history.of("4", "missing") == [(1, 0.0), (2, 0.0)]


@pytest.mark.parametrize("what", ["model", "step"])
def test_a_compiled_model(what: str) -> None:
    def train(watched: bool) -> tuple[list[float], gradnb.Monitor | None, int]:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = mlp()
        x, y = batch()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run = torch.compile(model, backend="aot_eager") if what == "model" else model
        step = torch.compile(optimizer.step, backend="aot_eager") if what == "step" else optimizer.step
        monitor = gradnb.watch(run) if watched else None
        expected = []
        for _ in range(8):
            optimizer.zero_grad()
            (run(x) - y).pow(2).mean().backward()
            expected.append(grads(model))
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            step()
        if monitor is not None:
            monitor.stop()
        return expected, monitor, torch._dynamo.utils.counters["stats"]["unique_graphs"]

    bare, _, graphs = train(False)
    expected, monitor, watched_graphs = train(True)
    assert monitor is not None and monitor.problem is None
    assert [one.name for one in monitor.history.layers] == ["0", "2", "4"]
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert expected == bare
    assert watched_graphs == graphs  # nothing of ours broke a graph or made it compile again
