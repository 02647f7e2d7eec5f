"""Parameters that an optimizer misses or holds in vain, and gradients that are cut beside a rollout; right code of the same look."""

from __future__ import annotations

import pytest

from tests.flow.program import assert_named, assert_silent

BROKEN = {
    "weights that load_state_dict puts in place of those that the optimizer holds": (
        "not-in-optimizer",
        """
        other = nn.Linear(4, 2)
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)  # <- here
        net.load_state_dict({k: 2 * v for k, v in other.state_dict().items()}, assign=True)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    ),
    "a parametrization that comes after the optimizer": (
        "not-in-optimizer",
        """
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)  # <- here
        nn.utils.parametrizations.weight_norm(net[0])
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    ),
    "a generator that a count has used up before the optimizer reads it": (
        "not-in-optimizer",
        """
        net = nn.Linear(4, 2)
        weights = (p for p in net.parameters())  # <- here
        print(len(list(weights)))
        opt = torch.optim.SGD(weights, lr=0.1)
        """,
    ),
    "a layer that is built whenever forward runs": (
        "unregistered",
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Linear(4, 3)
            def forward(self, x):
                last = nn.Linear(3, 2)  # <- here
                return last(torch.tanh(self.body(x)))
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    ),
    "a network that is frozen by a helper for another loss and never thawed": (
        "frozen",
        """
        def train(net, on):
            for p in net.parameters():
                p.requires_grad = on
        g, d = nn.Linear(4, 2), nn.Linear(2, 1)
        og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
        for _ in range(2):
            train(d, False)  # <- here
            fake = g(x)
            og.zero_grad(); d(fake).mean().backward(); og.step()
            od.zero_grad(); (d(y) - d(fake.detach())).mean().backward(); od.step()
        """,
    ),
    "a table that is born frozen and has a group of its own": (
        "frozen",
        """
        table = nn.Embedding.from_pretrained(torch.randn(5, 4))  # <- here
        out = nn.Linear(4, 2)
        opt = torch.optim.SGD([{"params": table.parameters()}, {"params": out.parameters()}], lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(out(table(torch.arange(8) % 5)), y).backward(); opt.step()
        """,
    ),
    "a log-probability that leaves torch beside the action, which leaves it too": (
        "item",
        """
        pi, v = nn.Linear(4, 3), nn.Linear(4, 1)
        opt = torch.optim.SGD([*pi.parameters(), *v.parameters()], lr=0.1)
        for _ in range(2):
            state, kept = x[0], []
            for _ in range(3):
                dist = torch.distributions.Categorical(logits=pi(state))
                action = dist.sample()
                kept.append((state, dist.log_prob(action).item()))  # <- here
                state = 0.9 * state + 0.1 * action.item()
            values = torch.cat([v(s) for s, _ in kept])
            loss = F.mse_loss(values, torch.ones(3)) - torch.tensor([l for _, l in kept]).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    ),
    "a number taken of a scale, which a rollout without gradients reads as well": (
        "item",
        """
        import math
        mean, log_scale = nn.Linear(4, 2), nn.Parameter(torch.zeros(1))
        opt = torch.optim.SGD([*mean.parameters(), log_scale], lr=0.1)
        for _ in range(2):
            with torch.no_grad():
                action = mean(x) + log_scale.exp() * torch.randn(8, 2)
            z = (action - mean(x)) / math.exp(log_scale)  # <- here
            opt.zero_grad(); (z.pow(2).sum(1) * (action - y).pow(2).sum(1)).mean().backward(); opt.step()
        """,
    ),
    "a custom backward that returns its gradients in the wrong order": (
        "custom-function",
        """
        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, factor):
                ctx.save_for_backward(x, factor)
                return x * factor
            @staticmethod
            def backward(ctx, g):
                x, factor = ctx.saved_tensors
                to_factor = (g * x).sum(0)
                return to_factor, g * factor  # <- here
        net, factor = nn.Linear(4, 2), nn.Parameter(torch.ones(2))
        opt = torch.optim.SGD([*net.parameters(), factor], lr=0.1)
        F.mse_loss(Scale.apply(net(x), factor), y).backward(); opt.step()
        """,
    ),
    "weights from state_dict(), which detaches them, in a functional call": (
        "detach",
        """
        net, scale = nn.Linear(4, 2), nn.Parameter(torch.ones(2))
        opt = torch.optim.SGD([*net.parameters(), scale], lr=0.1)
        for _ in range(2):
            weights = net.state_dict()  # <- here
            out = torch.func.functional_call(net, dict(weights), (x,))
            opt.zero_grad(); F.mse_loss(scale * out, y).backward(); opt.step()
        """,
    ),
}

HEALTHY = {
    "a leaf that is made of a computed tensor behind a detach": """
        class Code:
            def __init__(self):
                first = torch.zeros(8, 4, requires_grad=True)
                self.z = first.to(torch.float64).detach().requires_grad_()
        code, net = Code(), nn.Linear(4, 2).double()
        for _ in range(3):
            loss = F.mse_loss(net(code.z), y.double()) + net.weight.pow(2).sum()
            loss.backward()
            with torch.no_grad():
                code.z -= 0.1 * code.z.grad
            code.z.grad = None; net.zero_grad()
            with torch.no_grad():
                for p in net.parameters():
                    p.mul_(0.99)
        """,
    "a network that is frozen for one loss and thawed for its own": """
        g, d = nn.Linear(4, 2), nn.Linear(2, 1)
        og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
        for _ in range(2):
            d.requires_grad_(False)
            fake = g(x)
            og.zero_grad(); d(fake).mean().backward(); og.step()
            d.requires_grad_(True)
            od.zero_grad(); (d(y) - d(fake.detach())).mean().backward(); od.step()
        """,
    "state dicts for a copy, an average and the best weights": """
        net = nn.Linear(4, 2)
        slow = copy.deepcopy(net).requires_grad_(False)
        opt, best = torch.optim.SGD(net.parameters(), lr=0.1), None
        for _ in range(3):
            loss = F.mse_loss(net(x), y) + 0.1 * F.mse_loss(net(x), slow(x))
            opt.zero_grad(); loss.backward(); opt.step()
            mixed = {k: 0.9 * v + 0.1 * net.state_dict()[k] for k, v in slow.state_dict().items()}
            slow.load_state_dict(mixed)
            best = {k: v.clone() for k, v in net.state_dict().items()}
        """,
    "a lazy layer that is registered by the first forward": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.last = None
            def forward(self, x):
                if self.last is None:
                    self.last = nn.Linear(x.size(1), 2)
                return self.last(x)
        net = Net()
        net(x)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    "weight norm before the optimizer": """
        net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, body, f"wiring-broken{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_right_code_of_the_same_look_is_left_in_peace(name):
    assert_silent(HEALTHY[name], f"wiring-healthy{list(HEALTHY).index(name)}")
