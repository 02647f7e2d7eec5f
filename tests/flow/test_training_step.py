"""The order of backward, step and zero_grad, and the modes of the model: what must be named, and what is right as it is."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named, assert_silent

SETUP = """
net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
batches = [(torch.randn(5, 4), torch.randn(5, 2)) for _ in range(10)]
"""

BROKEN = {
    "the module cleared between backward and step": (
        "zero-grad-misplaced",
        """
        for a, b in batches[:3]:
            F.mse_loss(net(a), b).backward()
            net.zero_grad()  # <- here
            opt.step()
        """,
    ),
    "gradients dropped by hand between backward and step": (
        "zero-grad-misplaced",
        """
        def clear(params):
            for p in params:
                p.grad = None  # <- here
        for a, b in batches[:3]:
            F.mse_loss(net(a), b).backward()
            clear(net.parameters())
            opt.step()
        """,
    ),
    "a step in a helper and in the loop": (
        "double-step",
        """
        def fit(a, b):
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            opt.step()
        for a, b in batches[:4]:
            fit(a, b)
            opt.step()  # <- here
        """,
    ),
    "a second step behind an average of the weights that is kept by hand": (
        "double-step",
        """
        mean = [p.detach().clone() for p in net.parameters()]
        for a, b in batches[:4]:
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            opt.step()
            for kept, p in zip(mean, net.parameters()):
                kept.mul_(0.9).add_(p.detach(), alpha=0.1)
            opt.step()  # <- here
        """,
    ),
    "a model that was validated before the training and stays in eval mode": (
        "eval-mode",
        """
        def score():
            net.eval()  # <- here
            with torch.no_grad():
                return F.mse_loss(net(x), y).item()
        print("before", score())
        for a, b in batches[:3]:
            opt.zero_grad(); F.mse_loss(net(a), b).backward(); opt.step()
        """,
    ),
    "batch statistics frozen by the first validation": (
        "eval-mode",
        """
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
        opt = torch.optim.Adam(net.parameters())
        for i, (a, b) in enumerate(batches[:5]):
            opt.zero_grad(); F.mse_loss(net(a), b).backward(); opt.step()
            if i == 1:
                with torch.no_grad():
                    print(F.mse_loss(net.eval()(x), y))  # <- here
        """,
    ),
    "a train that is looked up and not called": (
        "eval-mode",
        """
        net.eval()
        with torch.no_grad():
            print("before", F.mse_loss(net(x), y))
        net.train  # <- here
        for a, b in batches[:3]:
            opt.zero_grad(); F.mse_loss(net(a), b).backward(); opt.step()
        """,
    ),
    "a step that is looked up and not called": (
        "step-missing",
        """
        for a, b in batches[:3]:
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            opt.step  # <- here
        """,
    ),
    "the step of one of two optimizers that is looked up and not called": (
        "step-missing",
        """
        tail = nn.Linear(2, 2)
        tail_opt = torch.optim.SGD(tail.parameters(), lr=0.1)
        for a, b in batches[:3]:
            opt.zero_grad()
            tail_opt.zero_grad()
            F.mse_loss(tail(net(a)), b).backward()
            opt.step()
            tail_opt.step  # <- here
        """,
    ),
    "a backward that is looked up and not called": (
        "step-missing",
        """
        for a, b in batches[:3]:
            opt.zero_grad()
            loss = F.mse_loss(net(a), b)
            loss.backward  # <- here
            opt.step()
        """,
    ),
    "a step behind a condition that never holds": (
        "step-missing",
        """
        for i, (a, b) in enumerate(batches[:4]):
            (F.mse_loss(net(a), b) / 8).backward()
            if (i + 1) % 8 == 0:  # <- here
                opt.step()
                opt.zero_grad()
        """,
    ),
    "a backward behind a condition that never holds": (
        "step-missing",
        """
        for i, (a, b) in enumerate(batches[:4]):
            opt.zero_grad()
            loss = F.mse_loss(net(a), b)
            if loss.requires_grad is None:  # <- here
                loss.backward()
            opt.step()
        """,
    ),
    "steps without any backward": (
        "step-missing",
        """
        for a, b in batches[:3]:
            opt.zero_grad()
            loss = F.mse_loss(net(a), b)
            opt.step()  # <- here
        """,
    ),
    "a residual of a derivative that has no graph": (
        "not-twice-differentiable",
        """
        net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = torch.optim.Adam(net.parameters())
        def residual(t):
            u = net(t)
            du, = torch.autograd.grad(u.sum(), t)  # <- here
            return (du + t).pow(2).mean()
        opt.zero_grad()
        residual(torch.linspace(0, 1, 9).unsqueeze(1).requires_grad_()).backward()
        opt.step()
        """,
    ),
}

HEALTHY = {
    "sharpness-aware steps: up by hand, backward again, down by the optimizer": """
        for a, b in batches[:3]:
            F.mse_loss(net(a), b).backward()
            with torch.no_grad():
                moves = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in net.parameters()]
                for p, move in zip(net.parameters(), moves):
                    p.add_(move)
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            with torch.no_grad():
                for p, move in zip(net.parameters(), moves):
                    p.sub_(move)
            opt.step(); opt.zero_grad()
        """,
    "two steps on one gradient that is halved in between": """
        for a, b in batches[:4]:
            opt.zero_grad()
            F.mse_loss(net(a), b).backward()
            opt.step()
            for p in net.parameters():
                p.grad.mul_(0.5)
            opt.step()
        """,
    "a norm taken before the gradients of a bad batch are dropped": """
        for i, (a, b) in enumerate(batches[:4]):
            opt.zero_grad()
            F.mse_loss(net(a), b * (50 if i == 2 else 1)).backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            if norm > 20:
                opt.zero_grad()
                continue
            opt.step()
        """,
    "one optimizer for each layer, stepped together": """
        opts = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (net[0], net[2])]
        for a, b in batches[:3]:
            for one in opts:
                one.zero_grad()
            F.mse_loss(net(a), b).backward()
            for one in opts:
                one.step()
        """,
    "a generator trained every second step": """
        d = nn.Linear(2, 1)
        d_opt = torch.optim.SGD(d.parameters(), lr=0.1)
        for i, (a, b) in enumerate(batches[:4]):
            d_opt.zero_grad()
            (F.softplus(d(net(a).detach())).mean() + F.softplus(-d(b)).mean()).backward()
            d_opt.step()
            if i % 2:
                opt.zero_grad(); F.softplus(-d(net(a))).mean().backward(); opt.step()
        """,
    "a closure that is evaluated several times for a step": """
        net = nn.Linear(4, 2)
        opt = torch.optim.LBFGS(net.parameters(), max_iter=4)
        def closure():
            opt.zero_grad(); loss = F.mse_loss(net(x), y); loss.backward(); return loss
        for _ in range(3):
            opt.step(closure)
        """,
    "a validation that brings the mode back": """
        def score():
            was = net.training
            net.eval()
            with torch.no_grad():
                value = F.mse_loss(net(x), y).item()
            net.train(was)
            return value
        for a, b in batches[:4]:
            opt.zero_grad(); F.mse_loss(net(a), b).backward(); opt.step(); score()
        """,
    "a pretrained body in eval mode from the first step to the last": """
        body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).eval()
        head = nn.Linear(6, 2)
        opt = torch.optim.Adam([*body.parameters(), *head.parameters()])
        for a, b in batches[:3]:
            opt.zero_grad(); F.mse_loss(head(body(a)), b).backward(); opt.step()
        """,
    "a probe on a frozen model in eval mode": """
        net[0].requires_grad_(False)
        opt = torch.optim.SGD(net[2].parameters(), lr=0.1)
        net.eval()
        with torch.no_grad():
            print("before", F.mse_loss(net(x), y))
        for a, b in batches[:3]:
            opt.zero_grad(); F.mse_loss(net(a), b).backward(); opt.step()
        """,
    "a teacher in eval mode beside a student in training": """
        teacher = copy.deepcopy(net).eval().requires_grad_(False)
        for a, _ in batches[:3]:
            with torch.no_grad():
                goal = teacher(a)
            opt.zero_grad(); F.mse_loss(net(a), goal).backward(); opt.step()
        """,
    "samples made in eval mode and trained on in training mode": """
        for a, b in batches[:3]:
            net.eval()
            bent = a.clone().requires_grad_()
            slope, = torch.autograd.grad(F.mse_loss(net(bent), b), bent)
            net.train()
            opt.zero_grad(); F.mse_loss(net(a + 0.01 * slope.sign()), b).backward(); opt.step()
        """,
    "second derivatives with a graph": """
        net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = torch.optim.Adam(net.parameters())
        t = torch.linspace(0, 1, 9).unsqueeze(1).requires_grad_()
        for _ in range(3):
            u = net(t)
            du, = torch.autograd.grad(u.sum(), t, create_graph=True)
            ddu, = torch.autograd.grad(du.sum(), t, create_graph=True)
            opt.zero_grad(); ((ddu + u).pow(2).mean() + (u[0] - 1).pow(2).mean()).backward(); opt.step()
        """,
    "a first-order inner update that is meant": """
        for a, b in batches[:3]:
            weights = dict(net.named_parameters())
            slopes = torch.autograd.grad(F.mse_loss(net(a), b), weights.values())
            fast = {name: w - 0.1 * g for (name, w), g in zip(weights.items(), slopes)}
            opt.zero_grad(); F.mse_loss(torch.func.functional_call(net, fast, (x,)), y).backward(); opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, SETUP + dedent(body), f"step{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    assert_silent(SETUP + dedent(HEALTHY[name]), f"well{list(HEALTHY).index(name)}")
