"""NaN and infinity: named where the first one is born, forward or backward, and left in peace where no gradient meets it."""

from __future__ import annotations

import pytest

from tests.flow.program import assert_named, assert_silent, check, said

BROKEN = {
    "a division that torch.where hides forward": """
        net = nn.Linear(4, 3)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        valid = (torch.rand(8, 3) < 0.5).float()
        valid[2] = 0
        def masked_mean(h):
            count = valid.sum(1)
            mean = (h * valid).sum(1) / count  # <- here
            return torch.where(count > 0, mean, torch.zeros_like(mean))
        for _ in range(2):
            opt.zero_grad(); masked_mean(net(x)).pow(2).mean().backward(); opt.step()
        """,
    "a root that meets 0 in the third batch only": """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for k in range(5):
            out = net(x)
            target = out.detach().clone() if k == 2 else y
            loss = (out - target).square().sum(1).sqrt().mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "the logarithm of a probability that underflowed": """
        net = nn.Linear(4, 3)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(2):
            p = torch.softmax(net(900 * x), 1)
            chosen = p[:, 0]
            loss = -chosen.log().mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a softmax over a row that is masked out, not the line that masks it": """
        q, k = nn.Linear(4, 3), nn.Linear(4, 3)
        opt = torch.optim.Adam([*q.parameters(), *k.parameters()])
        mask, rows = torch.zeros(8, 8), torch.arange(8) != 5
        mask[5] = float("-inf")
        for _ in range(2):
            scores = q(x) @ k(x).t() + mask
            weights = F.softmax(scores, dim=-1)  # <- here
            loss = (weights @ y)[rows].pow(2).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "scores that overflow in half precision": """
        net = nn.Linear(4, 4)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(2):
            h = (3000 * net(x)).half()
            scores = h @ h.t()  # <- here
            loss = F.softmax(scores.float(), dim=1)[:, 0].mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "an optimizer that divides 0 by 0": """
        table = nn.Embedding(10, 3)
        opt = torch.optim.Adam(table.parameters(), lr=0.01, eps=0.0)  # <- here
        for k in range(3):
            opt.zero_grad(); table(torch.tensor([k, k + 1])).pow(2).sum().backward(); opt.step()
        """,
    "NaN that NumPy made before it came into torch": """
        import numpy as np
        def features(counts):
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(counts) - np.log(counts).mean()  # <- here
        data = torch.tensor(features(np.array([[3.0, 1, 0, 2]] * 8, dtype=np.float32)))
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(net(data), y).backward(); opt.step()
        """,
    "a hand-written backward that divides by zero": """
        class Unit(torch.autograd.Function):
            @staticmethod
            def forward(ctx, h):
                size = h.abs()
                ctx.save_for_backward(size)
                return torch.where(size > 0, h.sign(), torch.zeros_like(h))
            @staticmethod
            def backward(ctx, grad):
                size, = ctx.saved_tensors
                return grad / size
        net = nn.Linear(4, 2, bias=False)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        x[1] = 0
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(Unit.apply(net(x)), y).backward(); opt.step()  # <- here
        """,
    "one infinite gradient that clipping spreads to all": """
        a, b, gate = nn.Linear(4, 4), nn.Linear(4, 2), nn.Parameter(torch.zeros(4))
        params = [*a.parameters(), *b.parameters(), gate]
        opt = torch.optim.SGD(params, lr=0.1)
        for _ in range(2):
            h = a(x) * (1 + gate.abs() ** 0.5)  # <- here
            opt.zero_grad(); F.mse_loss(b(h), y).backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            opt.step()
        """,
    "a distribution that refuses the parameters that a root made NaN": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        still = x[:1].expand(8, 4)
        for _ in range(3):
            dist = torch.distributions.Normal(net(still), 1.0)
            jump = (dist.mean[1:] - dist.mean[:-1]).pow(2).sum(1).sqrt()  # <- here
            loss = jump.sum() - dist.log_prob(y).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "an assertion before any backward": """
        net = nn.Linear(4, 1)
        opt = torch.optim.Adam(net.parameters())
        p = torch.sigmoid(400 * net(x))
        loss = -(p * p.log()).mean()  # <- here
        assert torch.isfinite(loss), "the loss is not finite"
        loss.backward(); opt.step()
        """,
    "a loop that stops at the first loss": """
        import math
        net = nn.Linear(4, 1)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(3):
            loss = (1 / (net(x) - net(x))).mean()  # <- here
            if not math.isfinite(loss.item()):
                break
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "the gradient of a gradient at 0": """
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        nn.init.constant_(net[0].bias, -50.0)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(2):
            mid = x.clone().requires_grad_(True)
            slope, = torch.autograd.grad(net(mid).sum(), mid, create_graph=True)
            loss = (slope.pow(2).sum(1).sqrt() - 1).pow(2).mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a standard deviation of one element": """
        net = nn.Linear(4, 1)
        opt = torch.optim.Adam(net.parameters())
        for n in (5, 3, 1):
            out = net(x[:n]).squeeze(1)
            adv = out - out.mean()
            spread = adv.std()  # <- here
            loss = (adv / (spread + 1e-6)).pow(2).mean() + out.mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a gradient scaler that skips every step because of a root": """
        net = nn.Linear(4, 2, bias=False)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        x[3] = 0
        for _ in range(3):
            opt.zero_grad()
            loss = net(x).pow(2).sum(1).sqrt().mean()  # <- here
            scaler.scale(loss).backward(); scaler.step(opt); scaler.update()
        """,
    "a parameter that was never filled": """
        w = nn.Parameter(torch.empty(4, 2).fill_(float("nan")))  # <- here
        opt = torch.optim.SGD([w], lr=0.1)
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(x @ w, y).backward(); opt.step()
        """,
    "a step after the recorded ones": """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for k in range(20):
            out = net(x)
            loss = (out - (out.detach() if k == 12 else y)).square().sum(1).sqrt().mean()
            opt.zero_grad(); loss.backward()
            opt.step()  # <- here
        """,
}

HEALTHY = {
    "infinities that only mask": """
        net = nn.Linear(4, 8)
        opt = torch.optim.Adam(net.parameters())
        mask = torch.full((8, 8), float("-inf")).triu(1)
        for _ in range(3):
            w = (net(x) + mask).softmax(-1)
            opt.zero_grad(); F.mse_loss(w @ y, y).backward(); opt.step()
        """,
    "a logarithm of 0 whose gradient a ReLU blocks": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(3):
            rate = F.relu(net(x))
            loss = (rate - torch.where(rate > 0, rate.log(), torch.zeros_like(rate))).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a root behind two wheres": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(3):
            h = F.relu(net(x))
            safe = torch.where(h > 0, h, torch.ones_like(h))
            loss = torch.where(h > 0, safe.sqrt(), torch.zeros_like(h)).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a batch with NaN that is left out": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        for k in range(4):
            data = x.clone()
            if k == 1:
                data[0, 0] = float("nan")
            loss = F.mse_loss(net(data), y)
            if torch.isnan(loss):
                continue
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "a metric that is NaN for a class without members": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        for _ in range(3):
            out = net(x)
            opt.zero_grad(); F.mse_loss(out, y).backward(); opt.step()
            print(out[:, 0][y[:, 0] > 100].mean().item(), (out.detach() - out.detach()).sum() / torch.tensor(0.0))
        """,
    "a scaler whose first scales are too large": """
        net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 2))
        opt = torch.optim.Adam(net.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**28)
        for _ in range(16):
            with torch.autocast("cpu", dtype=torch.float16):
                out = net(x)
            opt.zero_grad()
            scaler.scale(F.mse_loss(out, y.half())).backward()
            scaler.step(opt); scaler.update()
        """,
    "labels with gaps that are selected away": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        y[y > 1] = float("nan")
        for _ in range(3):
            there = ~torch.isnan(y)
            opt.zero_grad(); F.mse_loss(net(x)[there], y[there]).backward(); opt.step()
        """,
    "norms at exactly 0, which have a slope of 0": """
        net = nn.Linear(4, 2)
        nn.init.zeros_(net.weight); nn.init.zeros_(net.bias)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        y[0] = 0
        for _ in range(3):
            loss = (net(x) - y).norm(dim=1).mean() + F.normalize(net(x), dim=1).sum()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_birth_is_named_at_its_line(name):
    first = assert_named("nan", BROKEN[name], f"nan{list(BROKEN).index(name)}")
    assert first.severity == "error"


@pytest.mark.parametrize("name", HEALTHY)
def test_what_reaches_no_gradient_is_left_in_peace(name):
    assert_silent(HEALTHY[name], f"finite{list(HEALTHY).index(name)}")


def test_the_values_that_went_in_are_told():
    body = """
        net = nn.Linear(4, 2, bias=False)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        x[3] = x[6] = 0
        opt.zero_grad(); net(x).pow(2).sum(1).sqrt().mean().backward(); opt.step()  # <- here
        """
    report, _, _ = check(body, "told")
    (finding,) = report.findings
    assert "shape (8,), 2 of 8 elements are 0" in finding.explanation
    assert finding.affected == ["weight"]


def test_a_loss_that_is_nan_with_a_gradient_that_is_not_is_a_warning():
    body = """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for k in range(3):
            out = net(x)
            extra = out[y > 99].pow(2).mean()  # <- here
            loss = F.mse_loss(out, y) + extra
            opt.zero_grad(); loss.backward(); opt.step()
        """
    report, marked, _ = check(body, "warned")
    assert [(f.cause, f.severity, f.location.line) for f in report.findings] == [("nan", "warning", marked[0])], said(report)


def test_a_batch_that_the_code_leaves_out_is_no_more_than_a_remark():
    body = """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        for k in range(4):
            data = x / float(k != 1)  if k != 1 else x * float("nan")
            loss = F.mse_loss(net(data), y)
            opt.zero_grad(); loss.backward()
            if all(p.grad.isfinite().all() for p in net.parameters()):
                opt.step()
        """
    report, _, _ = check(body, "remark")
    assert {f.severity for f in report.findings if f.cause == "nan"} == {"info"}, said(report)


def test_only_the_parameters_that_the_birth_spoilt_are_listed():
    body = """
        clean, dirty = nn.Linear(4, 2), nn.Linear(4, 2, bias=False)
        opt = torch.optim.SGD([*clean.parameters(), *dirty.parameters()], lr=0.1)
        x[0] = 0
        loss = F.mse_loss(clean(x), y) + dirty(x).square().sum(1).sqrt().mean()  # <- here
        opt.zero_grad(); loss.backward()
        nn.utils.clip_grad_norm_([*clean.parameters(), *dirty.parameters()], 1.0)
        opt.step()
        """
    report, _, _ = check(body, "listed")
    assert report.findings[0].affected == ["dirty.weight"]


def test_an_error_about_shapes_beside_a_mask_of_infinities_is_not_about_nan():
    body = """
        net = nn.Linear(4, 3)
        def attend(h, mask):
            return (h @ h.t() + mask.masked_fill(mask > 0, float("-inf"))).softmax(-1) @ torch.randn(7, 2)
        attend(net(x), torch.ones(8, 8).triu(1)).sum().backward()
        """
    report, _, error = check(body, "shapes")
    assert isinstance(error, RuntimeError) and "shapes cannot be multiplied" in str(error)
    assert not [f for f in report.findings if f.cause == "nan"], said(report)


def test_a_loss_with_several_elements_is_searched_too():
    body = """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            rows = (net(x) / (y - y)).sum(1)  # <- here
            opt.zero_grad(); rows.backward(torch.ones(8)); opt.step()
        """
    assert_named("nan", body, "rows")


def test_a_birth_deep_in_a_large_graph_is_named_in_a_later_step():
    body = """
        net = nn.Linear(4, 4)
        opt = torch.optim.SGD(net.parameters(), lr=1e-3)
        for k in range(3):
            h = x
            for _ in range(900):
                h = 0.5 * h + 0.1 * net(h)
            gap = h - (h.detach() if k == 1 else 0)
            loss = gap.pow(2).sum(1).sqrt().mean()  # <- here
            opt.zero_grad(); loss.backward(); opt.step()
        """
    assert_named("nan", body, "large")
