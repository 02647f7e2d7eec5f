"""What recording must never do to the user's process, and what it must know afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

import gradnb


def train(model, steps=3, optimizer=None, data=None):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(8, 4) if data is None else data
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
    return loss


PATCHED = [
    (nn.Module, "__call__"),
    (nn.Parameter, "__new__"),
    (torch.autograd.Function, "apply"),
    (torch.optim.Optimizer, "__init__"),
    (torch.optim.Optimizer, "zero_grad"),
    (nn.Module, "zero_grad"),
    (torch.amp.GradScaler, "scale"),
    (torch.amp.GradScaler, "unscale_"),
    (torch.amp.GradScaler, "update"),
    (torch.autograd.grad_mode.inference_mode, "__enter__"),
    (torch.autograd.grad_mode.inference_mode, "__exit__"),
]


def snapshot():
    found = [vars(owner).get(name) for owner, name in PATCHED]
    from torch.optim import optimizer as module

    hooks = (len(module._global_optimizer_pre_hooks), len(module._global_optimizer_post_hooks))
    return found, hooks, torch._C._len_torch_function_stack()


@pytest.mark.parametrize("end", ["normally", "with an error", "with an interrupt", "inside a step"])
def test_everything_patched_is_put_back_however_the_block_ends(end):
    before = snapshot()

    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("the disk is full")

    model = nn.Linear(4, 2)
    try:
        with gradnb.check():
            train(model)
            if end == "with an error":
                raise ValueError("mine")
            if end == "with an interrupt":
                raise KeyboardInterrupt
            if end == "inside a step":
                train(model, optimizer=Failing(model.parameters(), lr=0.1))
    except (ValueError, KeyboardInterrupt, RuntimeError):
        pass
    assert snapshot() == before


def test_a_mode_that_the_user_left_open_stays_and_ours_goes():
    class Mine(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    mine = Mine()
    with gradnb.check():
        mine.__enter__()
        train(nn.Linear(4, 2))
    try:
        assert torch._C._len_torch_function_stack() == 1
        assert torch._C._get_function_stack_at(0) is mine
    finally:
        mine.__exit__(None, None, None)


def test_a_checked_training_gives_the_same_bits_and_leaves_the_same_random_stream():
    def run():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        loss = train(model, steps=7)
        return [p.detach().clone() for p in model.parameters()] + [loss.detach(), torch.get_rng_state()]

    bare = run()
    with gradnb.check():
        recorded = run()
    assert all(torch.equal(a, b) for a, b in zip(bare, recorded))


def test_nothing_of_the_users_is_kept_alive():
    with gradnb.check() as report:
        model = nn.Linear(4, 2)
        loss = train(model)
        seen = [weakref.ref(model), weakref.ref(loss), weakref.ref(model.weight)]
        del model, loss
        gc.collect()
        assert [r() for r in seen] == [None] * 3
    assert report.verdict == "ok"


def test_an_error_keeps_nothing_alive_once_it_is_handled():
    def block():
        model = nn.Linear(4, 2)
        held.append(weakref.ref(model.weight))
        with gradnb.check():
            model(torch.randn(3, 4)).detach().sum().backward()

    held: list = []
    with pytest.raises(RuntimeError, match="does not require grad"):
        block()
    gc.collect()
    assert held[0]() is None
    assert gradnb.last_report().findings[0].cause == "detach"


def test_a_long_run_is_recorded_for_its_first_steps_and_counted_after_that():
    with gradnb.check(steps=3) as report:
        train(nn.Linear(4, 2), steps=400)
    assert len([s for s in report.steps if s.kind == "step"]) == 3
    assert any("397 more were counted" in note for note in report.notes)


def test_a_parameter_that_is_fed_only_later_is_no_finding():
    late, early = nn.Linear(4, 4), nn.Linear(4, 4)
    optimizer = torch.optim.SGD([*late.parameters(), *early.parameters()], lr=0.1)
    x = torch.randn(8, 4)
    with gradnb.check(steps=2) as report:
        for step in range(12):
            optimizer.zero_grad()
            h = early(x)
            (h if step < 6 else late(h)).pow(2).mean().backward()
            optimizer.step()
    assert [f for f in report.findings if f.severity != "info"] == []


def test_the_steps_of_a_loop_are_listed_with_their_lines():
    model = nn.Linear(4, 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(3, 4)).sum()).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    kinds = [s.kind for s in report.steps]
    assert kinds == ["zero_grad", "scale", "backward", "unscale", "clip", "step", "update"]
    lines = [s.location.line for s in report.steps]
    assert lines == sorted(lines) and all(s.ok for s in report.steps)


def test_a_closure_is_recorded_although_it_runs_inside_the_step():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    x = torch.randn(8, 4)

    def closure():
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        return loss

    with gradnb.check() as report:
        for _ in range(2):
            optimizer.step(closure)
    assert report.verdict == "ok"
    assert any(s.kind == "backward" for s in report.steps)


def test_an_inner_check_leaves_the_report_to_the_outer_one():
    with gradnb.check() as outer:
        with gradnb.check() as inner:
            train(nn.Linear(4, 2))
        train(nn.Linear(4, 2))
    assert gradnb.last_report() is outer
    assert any("inside another" in note for note in inner.notes)


def test_steps_below_one_are_refused_with_what_was_given():
    with pytest.raises(ValueError, match="steps=0 given"):
        gradnb.check(steps=0)


def test_a_fault_of_gradnbs_own_never_reaches_the_block(monkeypatch):
    from gradnb.recorder.gradients import Gradients

    def broken(self, *args):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(Gradients, "before_step", broken)
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    with gradnb.check() as report:
        train(model)
    assert not torch.equal(before, model.weight)
    assert any("internal problem" in note and "ZeroDivisionError" in note for note in report.notes)


def test_a_parameter_that_stood_still_did_not_move_though_many_others_came_later():
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        for _ in range(2):
            with torch.no_grad():
                out = model(torch.ones(2, 8))
            out.sum().requires_grad_().backward()
            optimizer.step()
        late = nn.Sequential(*[nn.Linear(2, 2) for _ in range(20)])  # so many that their norms are computed in another way
        late(torch.ones(1, 2))
    assert [p.moved for p in report.recording.parameters][:2] == [False, False]
    assert "no-grad" in [finding.cause for finding in report.findings]
