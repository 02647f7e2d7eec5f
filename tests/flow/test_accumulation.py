"""Several backward passes for one step: leftovers that are lost, mixed or stepped twice, and groups that are right."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named, assert_silent

SETUP = """
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
batches = [(torch.randn(5, 4), torch.randn(5, 2)) for _ in range(10)]
"""

BROKEN = {
    "gradients cleared for every micro-batch": (
        "zero-grad-misplaced",
        """
        for i, (a, b) in enumerate(batches[:8]):
            opt.zero_grad()  # <- here
            (F.mse_loss(net(a), b) / 4).backward()
            if (i + 1) % 4 == 0:
                opt.step()
        """,
    ),
    "a leftover block that steps again on used gradients": (
        "remainder",
        """
        for i, (a, b) in enumerate(batches[:8]):
            if i % 4 == 0:
                opt.zero_grad()
            (F.mse_loss(net(a), b) / 4).backward()
            if (i + 1) % 4 == 0:
                opt.step()
        opt.step()  # <- here
        """,
    ),
    "a leftover block that steps on nothing": (
        "remainder",
        """
        for i, (a, b) in enumerate(batches[:8]):
            (F.mse_loss(net(a), b) / 4).backward()
            if (i + 1) % 4 == 0:
                opt.step()
                opt.zero_grad()
        opt.step()  # <- here
        """,
    ),
    "the last batches of the run are never stepped": (
        "remainder",
        """
        def update():
            opt.step()
            opt.zero_grad()
        for i, (a, b) in enumerate(batches):
            (F.mse_loss(net(a), b) / 4).backward()
            if (i + 1) % 4 == 0:  # <- here
                update()
        """,
    ),
    "the last batches of an epoch that join the first step of the next one": (
        "remainder",
        """
        for epoch in range(3):
            for i, (a, b) in enumerate(batches[:5]):
                (F.mse_loss(net(a), b) / 2).backward()
                if (i + 1) % 2 == 0:  # <- here
                    opt.step()
                    opt.zero_grad()
        """,
    ),
    "leftovers of a rhythm that a helper computes": (
        "remainder",
        """
        class Rhythm:
            def __init__(self, every):
                self.every = every
            def due(self, i):
                return (i + 1) % self.every == 0  # <- here
        rhythm = Rhythm(2)
        for epoch in range(3):
            opt.zero_grad()
            for i, (a, b) in enumerate(batches[:5]):
                (F.mse_loss(net(a), b) / 2).backward()
                if rhythm.due(i):
                    opt.step()
                    opt.zero_grad()
        """,
    ),
    "a short last group divided by the size of a full one": (
        "remainder",
        """
        for i, (a, b) in enumerate(batches):
            loss = F.mse_loss(net(a), b)
            loss = loss / 4  # <- here
            loss.backward()
            if (i + 1) % 4 == 0 or i + 1 == len(batches):
                opt.step()
                opt.zero_grad()
        """,
    ),
}

HEALTHY = {
    "a leftover group with its own divisor": """
        size = 4
        for start in range(0, len(batches), size):
            group = batches[start:start + size]
            opt.zero_grad()
            for a, b in group:
                (F.mse_loss(net(a), b) / len(group)).backward()
            opt.step()
        """,
    "a leftover block that asks whether anything is left": """
        for batches in (batches, batches[:8]):
            waiting = 0
            for a, b in batches:
                F.mse_loss(net(a), b).backward()
                waiting += 1
                if waiting == 4:
                    opt.step(); opt.zero_grad(); waiting = 0
            if waiting:
                opt.step(); opt.zero_grad()
        """,
    "a leftover whose gradients are scaled up by hand": """
        for i, (a, b) in enumerate(batches):
            (F.mse_loss(net(a), b) / 4).backward()
            if (i + 1) % 4 == 0:
                opt.step(); opt.zero_grad()
        for p in net.parameters():
            p.grad.mul_(4 / 2)
        opt.step(); opt.zero_grad()
        """,
    "the losses of two tasks added up by two backward passes": """
        for a, b in batches[:3]:
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            net(a).pow(2).mean().mul(1e-3).backward()
            opt.step()
        """,
    "gradients of tasks read one after the other and combined": """
        for a, b in batches[:3]:
            parts = []
            for target in (b, -b):
                opt.zero_grad()
                F.mse_loss(net(a), target).backward()
                parts.append([p.grad.clone() for p in net.parameters()])
            for p, *own in zip(net.parameters(), *parts):
                p.grad = sum(own)
            opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, SETUP + dedent(body), f"group{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    assert_silent(SETUP + dedent(HEALTHY[name]), f"even{list(HEALTHY).index(name)}")
