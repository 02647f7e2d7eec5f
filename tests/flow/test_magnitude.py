"""Gradients that fall or grow along a chain, and zeros that are zero for good; small and large ones that are meant stay in peace."""

from __future__ import annotations

import pytest

from tests.flow.program import assert_named, assert_silent

BROKEN = {
    "a forget gate that starts half closed": (
        "vanishing",
        """
        class Memory(nn.Module):
            def __init__(self, h=6):
                super().__init__()
                self.w, self.u = nn.Parameter(0.1 * torch.randn(h, 2)), nn.Parameter(0.1 * torch.randn(h, h))
                self.b = nn.Parameter(torch.empty(h))
                nn.init.normal_(self.b, std=0.1)  # <- here
            def forward(self, c, noise):
                for n in noise:
                    f = torch.sigmoid(F.linear(n, self.w, self.b) + F.linear(c, self.u))
                    c = f * c
                return c
        start, memory, head = nn.Linear(4, 6), Memory(), nn.Linear(6, 2)
        opt = torch.optim.Adam([*start.parameters(), *memory.parameters(), *head.parameters()])
        for _ in range(3):
            opt.zero_grad(); F.mse_loss(head(memory(start(x), 0.1 * torch.randn(50, 8, 2))), y).backward(); opt.step()
        """,
    ),
    "weights that start too small": (
        "vanishing",
        """
        net = nn.Sequential(*[m for _ in range(7) for m in (nn.Linear(4, 4), nn.Tanh())], nn.Linear(4, 2))
        for m in net:
            if isinstance(m, nn.Linear):
                nn.init.uniform_(m.weight, -0.004, 0.004)  # <- here
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    ),
    "a product that underflows to zero": (
        "vanishing",
        """
        net = nn.ModuleList(nn.Linear(4, 4) for _ in range(70))
        head = nn.Linear(4, 2)
        opt = torch.optim.Adam([*net.parameters(), *head.parameters()])
        for _ in range(2):
            h = x
            for layer in net:
                h = torch.sigmoid(layer(h))  # <- here
            opt.zero_grad(); F.mse_loss(head(h), y).backward(); opt.step()
        """,
    ),
    "a learned factor that is not normalised": (
        "exploding",
        """
        class Mix(nn.Module):
            def __init__(self):
                super().__init__()
                self.guide = nn.Linear(4, 4)
                nn.init.constant_(self.guide.bias, 3.0)
            def forward(self, h):
                g = self.guide(h).abs()  # <- here
                for _ in range(14):
                    h = g * h + g * h.roll(1, 1)
                return h
        first, mix, head = nn.Linear(4, 4), Mix(), nn.Linear(4, 2)
        opt = torch.optim.Adam([*first.parameters(), *mix.parameters(), *head.parameters()])
        for _ in range(2):
            opt.zero_grad(); F.smooth_l1_loss(head(mix(first(x))), y).backward(); opt.step()
        """,
    ),
    "recurrent weights that start too large": (
        "exploding",
        """
        w = nn.Parameter(torch.empty(16, 16))
        nn.init.normal_(w, std=1.0)  # <- here
        first, head = nn.Linear(4, 16), nn.Linear(16, 2)
        opt = torch.optim.Adam([w, *first.parameters(), *head.parameters()])
        for _ in range(2):
            h = first(x)
            for _ in range(12):
                h = torch.relu(h @ w)
            opt.zero_grad(); F.mse_loss(head(h), y).backward(); opt.step()
        """,
    ),
    "a learning rate under which every step is larger than the last": (
        "exploding",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.5)  # <- here
        for _ in range(5):
            opt.zero_grad(); F.mse_loss(net(30 * x), y).backward(); opt.step()
        """,
    ),
    "a learning rate under which the loss overflows": (
        "exploding",
        """
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        opt = torch.optim.SGD(net.parameters(), lr=4.0)  # <- here
        for _ in range(12):
            opt.zero_grad(); (net(9 * x) - y).pow(2).sum().backward(); opt.step()
        """,
    ),
    "units that one large step kills": (
        "zero-gradient",
        """
        a, b = nn.Linear(4, 6), nn.Linear(6, 1, bias=False)
        nn.init.ones_(b.weight)
        opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=30.0)
        for _ in range(5):
            h = F.relu(a(x.abs()))  # <- here
            opt.zero_grad(); (b(h) + 1).mean().backward(); opt.step()
        """,
    ),
    "a layer norm over a single feature": (
        "zero-gradient",
        """
        score, norm = nn.Linear(4, 1), nn.LayerNorm(1)
        opt = torch.optim.Adam([*score.parameters(), *norm.parameters()])
        for _ in range(3):
            out = norm(score(x))  # <- here
            opt.zero_grad(); F.mse_loss(out, y[:, :1]).backward(); opt.step()
        """,
    ),
    "probabilities of which only the sum is used": (
        "zero-gradient",
        """
        gate, head = nn.Linear(4, 3), nn.Linear(4, 2)
        opt = torch.optim.Adam([*gate.parameters(), *head.parameters()])
        for _ in range(3):
            p = F.softmax(gate(x), 1)
            out = head(x) * p.sum(1, keepdim=True)  # <- here
            opt.zero_grad(); F.mse_loss(out, y).backward(); opt.step()
        """,
    ),
}

HEALTHY = {
    "a residual branch that is scaled down at first": """
        gamma = nn.Parameter(1e-6 * torch.ones(4))
        branch, head = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)), nn.Linear(4, 2)
        opt = torch.optim.AdamW([gamma, *branch.parameters(), *head.parameters()])
        for _ in range(4):
            opt.zero_grad(); F.mse_loss(head(x + gamma * branch(x)), y).backward(); opt.step()
        """,
    "a loss scaled down": """
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        opt = torch.optim.Adam(net.parameters(), eps=1e-16)
        for _ in range(4):
            opt.zero_grad(); (1e-7 * F.mse_loss(net(x), y)).backward(); opt.step()
        """,
    "ten layers as they start by default": """
        net = nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(16, 16), nn.ReLU())])
        first, head = nn.Linear(4, 16), nn.Linear(16, 2)
        opt = torch.optim.Adam([*first.parameters(), *net.parameters(), *head.parameters()])
        for _ in range(4):
            opt.zero_grad(); F.mse_loss(head(net(first(x))), y).backward(); opt.step()
        """,
    "small weights between batch norms": """
        layers = []
        for _ in range(8):
            linear = nn.Linear(8, 8); nn.init.normal_(linear.weight, std=0.001)
            layers += [linear, nn.BatchNorm1d(8), nn.ReLU()]
        net = nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 2))
        opt = torch.optim.Adam(net.parameters())
        for _ in range(4):
            opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        """,
    "large targets": """
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        opt = torch.optim.Adam(net.parameters())
        for _ in range(4):
            opt.zero_grad(); F.mse_loss(net(x), 1e5 * y, reduction="sum").backward(); opt.step()
        """,
    "a recurrent net that grows and is clipped": """
        w, first, head = nn.Linear(8, 8), nn.Linear(4, 8), nn.Linear(8, 2)
        nn.init.orthogonal_(w.weight, 1.6)
        params = [*w.parameters(), *first.parameters(), *head.parameters()]
        opt = torch.optim.Adam(params)
        for _ in range(4):
            h = first(x)
            for _ in range(25):
                h = F.relu(w(h))
            opt.zero_grad(); F.mse_loss(head(h), y).backward()
            nn.utils.clip_grad_norm_(params, 1.0); opt.step()
        """,
    "a hinge that all samples satisfy in the end": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=1.0)
        side = torch.where(x[:, :1] > 0, 1.0, -1.0)
        for _ in range(8):
            opt.zero_grad(); F.relu(1 - side * net(x + 4 * side)).mean().backward(); opt.step()
        """,
    "a term that is switched on later": """
        net, aux = nn.Linear(4, 2), nn.Linear(4, 2)
        opt = torch.optim.SGD([*net.parameters(), *aux.parameters()], lr=0.1)
        for epoch in range(4):
            loss = F.mse_loss(net(x), y) + max(0, epoch - 1) * F.mse_loss(aux(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a layer norm over more than one feature": """
        score, norm = nn.Linear(4, 2), nn.LayerNorm(2)
        opt = torch.optim.Adam([*score.parameters(), *norm.parameters()])
        for _ in range(3):
            opt.zero_grad(); F.mse_loss(norm(score(x)), y).backward(); opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_mechanism_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, body, f"size{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_sizes_that_are_meant_are_left_in_peace(name):
    assert_silent(HEALTHY[name], f"meant{list(HEALTHY).index(name)}")
