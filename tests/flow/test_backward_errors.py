"""Backward passes that fail, or that go through shapes and values which do not belong together: which line is to blame."""

from __future__ import annotations

import pytest

from tests.flow.program import assert_named, assert_silent, check, said

AGAIN = {
    "a hidden state kept in the module": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell, self.out, self.h = nn.GRUCell(4, 6), nn.Linear(6, 2), torch.zeros(8, 6)
            def forward(self, x):
                h = self.cell(x, self.h)
                self.h = h  # <- here
                return self.out(h)
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "an LSTM's state in a local name, of which the loss used another output": """
        lstm, out = nn.LSTM(4, 6), nn.Linear(6, 2)
        opt = torch.optim.SGD([*lstm.parameters(), *out.parameters()], lr=0.1)
        state = None
        for _ in range(3):
            seen, state = lstm(x[None], state)  # <- here
            loss = F.mse_loss(out(seen[0]), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "log-probabilities put into a buffer by a method": """
        class Buffer:
            def __init__(self):
                self.kept = []
            def add(self, value):
                self.kept.append(value)  # <- here
            def all(self):
                return torch.cat(self.kept)
        net, buffer = nn.Linear(4, 2), Buffer()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            buffer.add(net(x).log_softmax(1))
            loss = buffer.all().pow(2).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a loss computed once in front of the loop": """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = F.mse_loss(net(x), y)  # <- here
        for _ in range(3):
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a discriminator's loss that goes on into the generator": """
        g, d = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
        for _ in range(2):
            fake = g(x)
            d_loss = d(x).mean() - d(fake).mean()  # <- here
            od.zero_grad(); d_loss.backward(); od.step()
            g_loss = d(fake).mean()
            og.zero_grad(); g_loss.backward(); og.step()
        """,
    "the side branch of a helper that should have detached": """
        body, gate, head = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 1), nn.Linear(6, 2)
        og, om = torch.optim.SGD(gate.parameters(), lr=0.1), torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        def heads(h):
            gated = gate(h).sigmoid()  # <- here
            return gated, head(h)
        for _ in range(2):
            gated, out = heads(body(x))
            og.zero_grad(); gated.mean().backward(); og.step()
            om.zero_grad(); F.mse_loss(out, y).backward(); om.step()
        """,
    "two losses of one forward pass": """
        body, a, b = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 1), nn.Linear(6, 2)
        opt = torch.optim.SGD([*body.parameters(), *a.parameters(), *b.parameters()], lr=0.1)
        for _ in range(2):
            h = body(x)
            opt.zero_grad()
            a(h).mean().backward()  # <- here
            F.mse_loss(b(h), y).backward()
            opt.step()
        """,
    "autograd.grad that does not keep the graph": """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def slopes(loss, retain=False):
            return torch.autograd.grad(loss, list(net.parameters()), retain_graph=retain)
        for _ in range(2):
            loss = F.mse_loss(net(x), y)
            size = sum(s.norm() for s in slopes(loss)).item()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a state kept alive by retain_graph until a step changes its weights": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.cell, self.h = nn.GRUCell(4, 2), torch.zeros(8, 2)
            def forward(self, x):
                self.h = self.cell(x, self.h)  # <- here
                return self.h
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(retain_graph=True); opt.step()
        """,
}

STALE = {
    "a table of biases computed once, which retain_graph keeps from raising": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.lin, self.cached = nn.Parameter(torch.randn(2)), nn.Linear(4, 2), None
            def forward(self, x):
                if self.cached is None:
                    self.cached = torch.tanh(self.table)  # <- here
                return self.lin(x) + self.cached
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(retain_graph=True); opt.step()
        """,
    "a sum of two parameters, whose graph has nothing to free": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.lin = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2)), nn.Linear(4, 2)
                self.both = self.a + self.b  # <- here
            def forward(self, x):
                return self.lin(x) + self.both
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
}

INPLACE = {
    "a residual added in place": """
        a, b = nn.Linear(4, 4), nn.Linear(4, 2)
        opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
        h = torch.tanh(a(x))
        h += x  # <- here
        F.mse_loss(b(h), y).backward()
        """,
    "an in-place module, where it is built": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Linear(4, 6)
                self.rest = nn.Sequential(
                    nn.ReLU(inplace=True),  # <- here
                    nn.Linear(6, 2),
                )
            def forward(self, x):
                h = self.first(x)
                return self.rest(h) * h.detach().mean() + self.gate(h)
            def gate(self, h):
                return torch.sigmoid(h)[:, :2] * self.scores[:, :2]
        net = Net()
        def forward(x):
            h = net.first(x)
            scores = h * h
            return net.rest(h) + scores[:, :2]
        F.mse_loss(forward(x), y).backward()
        """,
    "an in-place function of torch.nn.functional": """
        net = nn.Linear(4, 2)
        h = net(x)
        square = h * h
        out = F.relu(h, inplace=True)  # <- here
        (F.mse_loss(out, y) + square.mean()).backward()
        """,
    "rows of a buffer written one after the other": """
        net = nn.Linear(4, 4)
        state = torch.tanh(net(x))
        for i in range(4):
            state[:, i] = state[:, i] * state.sum(1)  # <- here
        state.mean().backward()
        """,
    "weights stepped between the two passes of another loss": """
        g, d = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
        fake = g(x)
        d_loss, g_loss = d(fake.detach()).mean(), d(fake).mean()
        od.zero_grad(); d_loss.backward()
        od.step()  # <- here
        og.zero_grad(); g_loss.backward(); og.step()
        """,
    "weights loaded between forward and backward": """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        best = copy.deepcopy(net.state_dict())
        loss = F.mse_loss(net(x), y)
        net.load_state_dict(best)  # <- here
        loss.backward()
        """,
    "rows of an unbound tensor": """
        net = nn.Linear(4, 2)
        out = net(x)
        for row in out:
            row *= 2  # <- here
        F.mse_loss(out, y).backward()
        """,
}

LEAF = {
    "a step by hand": """
        net = nn.Linear(4, 2)
        F.mse_loss(net(x), y).backward()
        for p in net.parameters():
            p -= 0.1 * p.grad  # <- here
        """,
    "a part of a weight": """
        net = nn.Linear(4, 2)
        net.weight[:, 0] = 0.0  # <- here
        F.mse_loss(net(x), y).backward()
        """,
}

UNUSED = {
    "a slice that is made after the forward pass": """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        points = x.clone().requires_grad_()
        u = net(points)
        first = points[:, :1]  # <- here
        torch.autograd.grad(u.sum(), first)
        """,
    "a forward pass on what the mixture was made from": """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
        mixed = (0.5 * x + 0.5 * x.flip(0)).requires_grad_()
        score = net(x)  # <- here
        torch.autograd.grad(score.sum(), mixed)
        """,
    "parameters of a head that another loss uses": """
        a, b = nn.Linear(4, 1), nn.Linear(4, 1)
        opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
        b(x).mean().backward()
        torch.autograd.grad(a(x).mean(), [*a.parameters(), *b.parameters()])  # <- here
        """,
}

SHAPES = {
    "a column against a row in a loss of torch": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            loss = F.mse_loss(net(x), y[:, 0])  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a target that was blown up before the loss": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def target(reward, states):
            with torch.no_grad():
                return reward + 0.9 * net(states)  # <- here
        for _ in range(2):
            loss = (net(x).squeeze(-1) - target(y[:, 0], x)).pow(2).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a likelihood of torch.distributions": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            loss = -torch.distributions.Normal(net(x), 1.0).log_prob(y[:, 0]).mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "weights of samples, a row, on losses, a column": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        weights = torch.rand(8)
        for _ in range(2):
            losses = F.mse_loss(net(x), y[:, :1], reduction="none")
            loss = (losses * weights).mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "one prediction repeated over the dimensions of a target": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            loss = F.smooth_l1_loss(net(x), y)  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a flat vector of all parameters and a gradient of some": """
        net, other = nn.Linear(4, 2), nn.Linear(2, 2)
        both = nn.ModuleList([net, other])
        def flat(tensors):
            return torch.cat([t.reshape(-1) for t in tensors])
        grad = flat(torch.autograd.grad(F.mse_loss(net(x), y), list(net.parameters())))
        old = flat(p.detach() for p in both.parameters())  # <- here
        new = old - 0.1 * grad
        """,
    "a loss of torch that refuses the shapes": """
        net = nn.Linear(4, 1)
        loss = F.binary_cross_entropy_with_logits(net(x), torch.ones(8))  # <- here
        """,
}

DTYPES = {
    "an array in double precision, behind a data set and a loader": """
        import numpy as np
        class Rows(torch.utils.data.Dataset):
            def __init__(self, table):
                self.table = table
            def __len__(self):
                return len(self.table)
            def __getitem__(self, i):
                return torch.from_numpy(self.table[i])  # <- here
        net = nn.Linear(4, 2)
        for rows in torch.utils.data.DataLoader(Rows(np.ones((8, 4))), batch_size=4):
            net(rows).mean().backward()
        """,
    "integer targets in a loss of probabilities": """
        net = nn.Linear(4, 2)
        def labels(n):
            return torch.ones(n, 2, dtype=torch.long)  # <- here
        F.binary_cross_entropy_with_logits(net(x), labels(8)).backward()
        """,
    "a model that was put in half precision": """
        net = nn.Sequential(nn.Linear(4, 2))
        net.half()  # <- here
        F.mse_loss(net(x), y).backward()
        """,
    "an error that the backward pass raises": """
        net = nn.Linear(4, 2)
        target = y.double()  # <- here
        F.huber_loss(net(x), target).backward()
        """,
    "class indices taken out of a table of floats": """
        net = nn.Linear(4, 3)
        table = torch.cat([x, torch.zeros(8, 1)], dim=1)
        inputs, labels = table[:, :4], table[:, 4]  # <- here
        F.cross_entropy(net(inputs), labels).backward()
        """,
    "a parameter of integers": """
        steps = nn.Parameter(torch.arange(4))  # <- here
        (x * steps).sum().backward()
        """,
}

TWICE = {
    "a custom function whose backward is marked": """
        from torch.autograd.function import once_differentiable
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, a):
                ctx.save_for_backward(a)
                return a**3
            @staticmethod
            @once_differentiable  # <- here
            def backward(ctx, g):
                return 3 * ctx.saved_tensors[0] ** 2 * g
        net = nn.Linear(4, 1)
        a = x.clone().requires_grad_()
        slope = torch.autograd.grad(Cube.apply(net(a)).pow(2).sum(), a, create_graph=True)[0]
        slope.pow(2).mean().backward()
        """,
    "a distance whose kernel has a first derivative only": """
        a = x.clone().requires_grad_()
        apart = torch.cdist(nn.Linear(4, 3)(a), torch.zeros(2, 3))  # <- here
        slope = torch.autograd.grad(apart.pow(2).sum(), a, create_graph=True)[0]
        slope.pow(2).mean().backward()
        """,
    "an attention whose kernel has a first derivative only": """
        net, shift = nn.Linear(4, 4), nn.Linear(4, 4)
        a = x[None, None].clone().requires_grad_()
        q = net(a)
        mixed = F.scaled_dot_product_attention(q, q, shift(a))  # <- here
        slope = torch.autograd.grad(mixed.pow(2).sum(), a, create_graph=True)[0]
        slope.pow(2).mean().backward()
        """,
}

BROKEN = {
    "second-backward": {**AGAIN, **STALE},
    "inplace-modified": INPLACE,
    "leaf-inplace": LEAF,
    "unused-in-grad": UNUSED,
    "shape-mismatch": SHAPES,
    "dtype": DTYPES,
    "not-twice-differentiable": TWICE,
}
ALL = [(cause, name) for cause, programs in BROKEN.items() for name in programs]

HEALTHY = {
    "retain_graph within one round": """
        body, a, b = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 1), nn.Linear(6, 2)
        opt = torch.optim.SGD([*body.parameters(), *a.parameters(), *b.parameters()], lr=0.1)
        for _ in range(3):
            h = body(x)
            opt.zero_grad()
            a(h).pow(2).mean().backward(retain_graph=True)
            F.mse_loss(b(h), y).backward()
            opt.step()
        """,
    "a transposed weight that is kept: it moves with the weight": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.randn(2, 4))
                self.wt = self.w.t()
            def forward(self, x):
                return x @ self.wt
        net = Net()
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "squared distances of all pairs": """
        net = nn.Linear(4, 3)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            z = net(x)
            squares = z.pow(2).sum(1, keepdim=True)
            d = (squares + z.pow(2).sum(1) - 2 * z @ z.t()).clamp_min(0)
            loss = torch.exp(-d).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "differences of all pairs, asked for where they are taken": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            s = net(x).squeeze(-1)
            loss = F.relu(1 - (s.unsqueeze(1) - s)).mean() + (s[:, None] - y[:, 0][None]).abs().mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a batch as large as the features are many": """
        scale, net = nn.Parameter(torch.ones(8)), nn.Linear(8, 1)
        opt = torch.optim.SGD([scale, *net.parameters()], lr=0.1)
        for _ in range(2):
            t = torch.rand(8, 1)
            loss = F.mse_loss(net((t * scale).sin()), t) + (t * scale).pow(2).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "one target for all samples": """
        net = nn.Linear(4, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            loss = F.mse_loss(net(x), torch.ones(1)) + F.mse_loss(net(x), torch.tensor(0.5))
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a template fitted to many samples": """
        template = nn.Parameter(torch.zeros(1, 4))
        opt = torch.optim.SGD([template], lr=0.1)
        for _ in range(2):
            loss = F.mse_loss(template, x)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "None gradients that are looked after": """
        a, b = nn.Linear(4, 2), nn.Linear(4, 2)
        opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
        for i in range(4):
            loss = F.mse_loss((a if i % 2 else b)(x), y)
            grads = torch.autograd.grad(loss, [*a.parameters(), *b.parameters()], allow_unused=True)
            opt.zero_grad()
            for p, g in zip([*a.parameters(), *b.parameters()], grads):
                p.grad = torch.zeros_like(p) if g is None else g
            opt.step()
        """,
    "an in-place ReLU where nobody needs its input": """
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        """,
}

OTHERS = {
    "an index out of range": "net = nn.Linear(4, 2)\nF.mse_loss(net(x), y).backward()\n[1, 2][5]\n",
    "a layer of the wrong width": "net = nn.Linear(5, 2)\nF.mse_loss(net(x), y).backward()\n",
    "a dtype that only the message of the user names": "raise ValueError('expected dtype float32 for the table')\n",
    "a None that is no gradient": "class Net(nn.Module):\n    hidden = None\nprint(0.1 * Net().hidden)\n",
}


@pytest.mark.parametrize(("cause", "name"), ALL)
def test_the_line_to_blame_is_named(cause, name):
    first = assert_named(cause, BROKEN[cause][name], f"backward{ALL.index((cause, name))}")
    assert first.title and first.fix
    assert all(related.location != first.location for related in first.related)


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    assert_silent(HEALTHY[name], f"healthy-backward{list(HEALTHY).index(name)}")


@pytest.mark.parametrize("name", OTHERS)
def test_an_error_of_another_kind_is_no_finding(name):
    report, _, error = check(OTHERS[name], f"other{list(OTHERS).index(name)}")
    assert error is not None
    assert said(report) == []


def test_what_freed_the_graph_and_what_used_it_again_is_told():
    body = AGAIN["log-probabilities put into a buffer by a method"]
    report, _, _ = check(body, "related")
    notes = " / ".join(related.note for related in report.findings[0].related)
    for part in ("is made here", "is used again here", "freed the graph"):
        assert part in notes


def test_the_reason_of_a_missing_gradient_comes_before_the_None():
    body = """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)
            def forward(self, x):
                return self.b(self.a(x).detach())  # <- here
        net = Net()
        F.mse_loss(net(x), y).backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
        """
    assert_named("detach", body, "none")


def test_a_weight_that_is_bound_to_a_new_tensor_is_no_leaf_in_the_next_round():
    body = """
        w = torch.zeros(4, requires_grad=True)
        for _ in range(2):
            (x @ w - y[:, 0]).pow(2).mean().backward()
            w = w - 0.1 * w.grad  # <- here
        """
    assert_named("non-leaf", body, "rebound")


def test_an_error_after_the_recorded_steps_asks_for_more_of_them():
    body = """
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for i in range(9):
            loss = F.mse_loss(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
            if i == 7:
                loss.backward()  # <- here
        """
    assert "--steps" in assert_named("second-backward", body, "late").fix


def test_the_tensor_to_detach_is_called_what_the_line_calls_it():
    body = AGAIN["the side branch of a helper that should have detached"]
    assert "Pass `h` with `.detach()`" in assert_named("second-backward", body, "branch").fix
    body = AGAIN["a discriminator's loss that goes on into the generator"]
    assert "Pass `fake` with `.detach()`" in assert_named("second-backward", body, "branch").fix
