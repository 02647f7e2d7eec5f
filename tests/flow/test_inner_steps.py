"""Inner loops that go through a library: which of several cuts is the one to mend."""

from __future__ import annotations

import sys
import sysconfig
from types import ModuleType

import pytest

from tests.flow.program import assert_named, assert_silent

STEPS = """
        from torch.func import functional_call
        model = nn.Linear(4, 2)
        meta = torch.optim.SGD(model.parameters(), lr=0.1)
        def loss_of(weights):
            return F.mse_loss(functional_call(model, weights, (x,)).clamp(-3, 3), y)
        for _ in range(2):
            weights = dict(model.named_parameters())
            for _ in range({steps}):
                slopes = torch.autograd.grad(loss_of(weights), list(weights.values()))
                {update}
            loss = loss_of(weights)
            meta.zero_grad(); loss.backward(); meta.step()
"""
DETACHED = "weights = {n: (w - 0.1 * s).detach().requires_grad_() for (n, w), s in zip(weights.items(), slopes)}  # <- here"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_detached_update_is_the_cause_and_not_the_gradient_without_a_graph_in_it(steps):
    """create_graph=True would bring nothing back: all data goes through the detach."""
    assert_named("detach", STEPS.format(steps=steps, update=DETACHED), f"detached-update-{steps}")


def test_first_order_maml_is_met_with_silence():
    update = "weights = {n: w - 0.1 * s for (n, w), s in zip(weights.items(), slopes)}"
    assert_silent(STEPS.format(steps=2, update=update), "first-order")


def test_a_constant_of_a_library_is_no_result_of_what_it_is_multiplied_with(monkeypatch):
    source = "import torch\nWEIGHTS = torch.tensor([1.0, 2.0, 3.0])\ndef weighted(a):\n    return (WEIGHTS * a).sum()\n"
    library = ModuleType("weighing")  # imported before the check begins: nothing has seen its constant being made
    exec(compile(source, sysconfig.get_paths()["purelib"] + "/weighing.py", "exec"), library.__dict__)
    monkeypatch.setitem(sys.modules, "weighing", library)
    assert_named(
        "detach",
        """
        from weighing import weighted
        model = nn.Linear(4, 3)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            out = torch.tanh(model(x)).mean(0)
            watched = weighted(out.clamp(-3, 3))
            weights = {n: p.detach().requires_grad_() for n, p in model.named_parameters()}  # <- here
            loss = weighted(torch.func.functional_call(model, weights, (x,)).mean(0))
            opt.zero_grad(); loss.backward(); opt.step()
        """,
        "library-constant",
    )
