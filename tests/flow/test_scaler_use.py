"""Gradient scaling that runs through: orders of calls that are wrong, and unusual ones that are right."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named, assert_silent

SETUP = """
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
def loss_of(net=net):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.mse_loss(net(x).float(), y)
"""


BROKEN = {
    "a loss that is scaled in two places": (
        "scaler-misuse",
        """
        for _ in range(2):
            opt.zero_grad()
            loss = scaler.scale(loss_of())
            scaler.scale(loss).backward()  # <- here
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "a limit for values of scaled gradients": (
        "clip-scaled",
        """
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            nn.utils.clip_grad_value_(net.parameters(), 0.5)  # <- here
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "scaled gradients clamped by hand": (
        "clip-scaled",
        """
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            for p in net.parameters():
                p.grad.clamp_(-0.5, 0.5)  # <- here
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "a batch that is skipped by the size of scaled gradients": (
        "clip-scaled",
        """
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
            if norm > 100:  # <- here
                continue
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "clipping behind the step": (
        "clip-scaled",
        """
        for _ in range(3):
            opt.zero_grad()
            loss_of().backward()
            opt.step()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # <- here
        """,
    ),
    "an update between the steps of two optimizers": (
        "scaler-misuse",
        """
        first = torch.optim.SGD(net[0].parameters(), lr=0.1)
        last = torch.optim.SGD(net[2].parameters(), lr=0.1)
        for _ in range(2):
            first.zero_grad(); last.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.step(first)
            scaler.update()  # <- here
            scaler.step(last)
            scaler.update()
        """,
    ),
    "a plain step on scaled gradients": (
        "scaler-misuse",
        """
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            opt.step()  # <- here
        """,
    ),
}

HEALTHY = {
    "a gradient penalty that is unscaled on its way": """
        for _ in range(2):
            opt.zero_grad()
            z = x.clone().requires_grad_(True)
            out = net(z).pow(2).mean()
            (grad,) = torch.autograd.grad(scaler.scale(out), z, create_graph=True)
            penalty = (grad / scaler.get_scale()).pow(2).sum()
            scaler.scale(out + penalty).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "accumulation that is unscaled and clipped once a group": """
        for i in range(6):
            scaler.scale(loss_of() / 3).backward()
            if i % 3 == 2:
                scaler.unscale_(opt)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                scaler.step(opt)
                scaler.update()
                opt.zero_grad()
        """,
    "a frozen half-precision base below trained float32 weights": """
        base = nn.Linear(4, 4).half().requires_grad_(False)
        head = nn.Linear(4, 2)
        opt = torch.optim.AdamW(head.parameters())
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(F.mse_loss(head(base(x.half()).float()), y)).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "two optimizers, two losses, one scaler": """
        critic = nn.Linear(2, 1)
        critic_opt = torch.optim.SGD(critic.parameters(), lr=0.1)
        for _ in range(3):
            critic_opt.zero_grad()
            scaler.scale(F.softplus(critic(net(x).detach())).mean() + F.softplus(-critic(y)).mean()).backward()
            scaler.step(critic_opt)
            opt.zero_grad()
            scaler.scale(F.softplus(-critic(net(x))).mean()).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "a scaler that is switched off": """
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(opt)
            scaler.update()
        """,
    "a step that is left out while the update is not": """
        for limit in (9.0, 0.0, 9.0):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.unscale_(opt)
            if nn.utils.clip_grad_norm_(net.parameters(), 1.0) < limit:
                scaler.step(opt)
            scaler.update()
        """,
    "a limit that is multiplied by the scale": """
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0 * scaler.get_scale())
            scaler.step(opt)
            scaler.update()
        """,
    "a scale that overflows in the first steps": """
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)
        for _ in range(4):
            opt.zero_grad()
            scaler.scale(loss_of() * 1e4).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "a table that is trained without a scaler beside a net with one": """
        table = nn.Parameter(torch.zeros(2))
        table_opt = torch.optim.SGD([table], lr=0.1)
        for _ in range(3):
            opt.zero_grad(); table_opt.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.step(opt)
            scaler.update()
            (table - y.mean(0)).pow(2).sum().backward()
            table_opt.step()
        """,
    "a batch that is skipped for its NaN": """
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            if all(torch.isfinite(p.grad).all() for p in net.parameters()):
                scaler.step(opt)
                scaler.update()
        """,
    "one limit for the parameters of two optimizers": """
        first, last = torch.optim.SGD(net[0].parameters(), lr=0.1), torch.optim.SGD(net[2].parameters(), lr=0.1)
        for _ in range(3):
            first.zero_grad(); last.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.unscale_(first); scaler.unscale_(last)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(first); scaler.step(last)
            scaler.update()
        """,
    "the scale taken out by hand": """
        for _ in range(3):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            for p in net.parameters():
                p.grad.div_(scaler.get_scale())
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            scaler.update(scaler.get_scale())
        """,
    "a gradient penalty with scaled inner gradients": """
        for _ in range(3):
            opt.zero_grad()
            z = x.clone().requires_grad_()
            out = net(z)
            slope, = torch.autograd.grad(scaler.scale(out.sum()), z, create_graph=True)
            loss = F.mse_loss(out, y) + (slope / scaler.get_scale()).pow(2).mean()
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "clipping before the step and a norm for the log after it": """
        for _ in range(3):
            opt.zero_grad()
            loss_of().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            print(nn.utils.clip_grad_norm_(net.parameters(), float("inf")))
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, SETUP + dedent(body), f"scaler{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    assert_silent(SETUP + dedent(HEALTHY[name]), f"fine{list(HEALTHY).index(name)}")
