"""What makes a GradScaler raise: the line that is to blame is named, which is seldom the one that raises."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named

SETUP = """
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
def loss_of(net=net):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.mse_loss(net(x).float(), y)
"""


BROKEN = {
    "an adapter made in the dtype of its half-precision base": (
        "fp16-unscale",
        """
        base = nn.Linear(4, 4).half().requires_grad_(False)
        class Adapter(nn.Module):
            def __init__(self, like):
                super().__init__()
                self.down = nn.Linear(4, 2, dtype=like.weight.dtype)  # <- here
        adapter = Adapter(base)
        opt = torch.optim.AdamW(adapter.parameters())
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(F.mse_loss(adapter.down(base(x.half())).float(), y)).backward()
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "a default dtype of float16": (
        "fp16-unscale",
        """
        torch.set_default_dtype(torch.float16)  # <- here
        try:
            net = nn.Linear(4, 2)
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
            scaler.scale(F.mse_loss(net(x.half()).float(), y)).backward()
            scaler.unscale_(opt)
        finally:
            torch.set_default_dtype(torch.float32)
        """,
    ),
    "one layer that is cast alone": (
        "fp16-unscale",
        """
        class Mixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
                self.head.to(torch.float16)  # <- here
            def forward(self, x):
                return self.head(self.body(x).half()).float()
        net = Mixed()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler.scale(F.mse_loss(net(x), y)).backward()
        scaler.step(opt)
        """,
    ),
    "gradients cleared between backward and the scaler's step": (
        "no-inf-checks",
        """
        scaler.scale(loss_of()).backward()
        opt.zero_grad()  # <- here
        scaler.step(opt)
        scaler.update()
        """,
    ),
    "an optimizer built from the parameters of a network that is replaced": (
        "no-inf-checks",
        """
        head = nn.Linear(4, 2)
        opt = torch.optim.SGD(head.parameters(), lr=0.1)  # <- here
        head = nn.Linear(4, 2)
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of(head)).backward()
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "a backward behind a condition that has not come true yet": (
        "no-inf-checks",
        """
        judge = nn.Linear(2, 1)
        judge_opt = torch.optim.SGD(judge.parameters(), lr=0.1)
        for epoch in range(2):
            opt.zero_grad()
            judge_opt.zero_grad()
            scaler.scale(loss_of(net)).backward()
            if epoch > 0:
                scaler.scale(judge(y).pow(2).mean()).backward()
            scaler.step(opt)
            scaler.step(judge_opt)  # <- here
            scaler.update()
        """,
    ),
    "a loss computed in numpy and made to require grad": (
        "no-inf-checks",
        """
        def hinge(out):
            scores = out.detach().numpy()  # <- here
            return torch.tensor((1 - scores).clip(0).mean(), requires_grad=True)
        opt.zero_grad()
        scaler.scale(hinge(net(x))).backward()
        scaler.step(opt)
        scaler.update()
        """,
    ),
    "a second step after the gradients are gone": (
        "no-inf-checks",
        """
        def step():
            scaler.step(opt)
            scaler.update()
            opt.zero_grad()
        for _ in range(2):
            scaler.scale(loss_of()).backward()
            step()
        step()  # <- here
        """,
    ),
    "unscaling after the step for a log": (
        "unscale-twice",
        """
        opt.zero_grad()
        scaler.scale(loss_of()).backward()
        scaler.step(opt)
        scaler.unscale_(opt)  # <- here
        print(nn.utils.clip_grad_norm_(net.parameters(), 1.0))
        scaler.update()
        """,
    ),
    "a bad step that is skipped together with the update": (
        "unscale-twice",
        """
        for limit in (9.0, 0.0, 9.0):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.unscale_(opt)
            norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            if norm < limit:
                scaler.step(opt)
                scaler.update()  # <- here
        """,
    ),
    "unscaling in a loop without an update": (
        "unscale-twice",
        """
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.unscale_(opt)
            scaler.step(opt)  # <- here
        """,
    ),
    "a loss that is not scaled": (
        "scaler-misuse",
        """
        for _ in range(2):
            opt.zero_grad()
            loss = loss_of()
            loss.backward()  # <- here
            scaler.step(opt)
            scaler.update()
        """,
    ),
    "a scaler for the loss and another one for the step": (
        "scaler-misuse",
        """
        other = torch.amp.GradScaler("cpu", init_scale=64.0)
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            other.step(opt)  # <- here
            other.update()
        """,
    ),
    "two steps in one round": (
        "scaler-misuse",
        """
        opt.zero_grad()
        scaler.scale(loss_of()).backward()
        scaler.step(opt)
        scaler.step(opt)  # <- here
        scaler.update()
        """,
    ),
    "no update at all": (
        "scaler-misuse",
        """
        for _ in range(2):
            opt.zero_grad()
            scaler.scale(loss_of()).backward()
            scaler.step(opt)  # <- here
        """,
    ),
    "an update in every micro-batch": (
        "scaler-misuse",
        """
        for i in range(4):
            scaler.scale(loss_of() / 2).backward()
            if i % 2:
                scaler.step(opt)
                opt.zero_grad()
            scaler.update()  # <- here
        """,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_reason_of_the_error_is_named(name):
    cause, body = BROKEN[name]
    assert_named(cause, SETUP + dedent(body), f"error{list(BROKEN).index(name)}")


def test_what_follows_the_step_is_told_from_what_comes_twice():
    _, after = BROKEN["unscaling after the step for a log"]
    assert "comes after `scaler.step(opt)`" in assert_named("unscale-twice", SETUP + dedent(after), "after").title


def test_a_default_dtype_is_told_from_a_cast():
    _, default = BROKEN["a default dtype of float16"]
    assert "Leave the default dtype" in assert_named("fp16-unscale", SETUP + dedent(default), "default").fix
    _, cast = BROKEN["one layer that is cast alone"]
    assert "Remove the cast" in assert_named("fp16-unscale", SETUP + dedent(cast), "cast").fix
