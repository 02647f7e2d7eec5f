"""Small programs for single mechanisms: what must be named, at the marked line, and what looks suspicious and is right."""

from __future__ import annotations

import pytest
import torch

from tests.flow.program import check

BROKEN = {
    "what backward(inputs=) kept a gradient from is not fed by that loss": (
        "detach",
        """
        g, d = nn.Linear(4, 3), nn.Linear(3, 1)
        og, od = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(d.parameters(), lr=0.1)
        for _ in range(2):
            od.zero_grad()
            loss_d = d(g(x)).pow(2).mean()
            loss_d.backward(inputs=list(d.parameters()))
            od.step()
            og.zero_grad()
            loss_g = d(g(x).detach()).mean()  # <- here
            loss_g.backward()
            og.step()
        """,
    ),
    "a gradient of another optimizer's loss that is cleared feeds nobody, and a sample that a policy learns from is no cut": (
        "no-grad",
        """
        lm, policy, agent = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        opt, popt = torch.optim.Adam([*lm.parameters(), *agent.parameters()]), torch.optim.Adam(policy.parameters())
        @torch.no_grad()  # <- here
        def apply(prompt, action):
            return prompt + 0.1 * action
        for _ in range(9):
            prompt = lm(x)
            choice = torch.distributions.Normal(policy(prompt), 1.0)
            action = choice.sample()
            loss = F.mse_loss(agent(apply(prompt, action)), y)
            popt.zero_grad(); (-choice.log_prob(action).sum(1) * torch.randn(8)).mean().backward(); popt.step()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    ),
    "a reward of zero is no fault of the sample": (
        "zero-gradient",
        """
        policy, agent = nn.Linear(4, 4), nn.Linear(4, 2)
        opt, popt = torch.optim.Adam(agent.parameters()), torch.optim.Adam(policy.parameters())
        for _ in range(3):
            choice = torch.distributions.Normal(policy(x), 1.0)
            action = choice.sample()
            opt.zero_grad(); F.mse_loss(agent(x + action), y).backward(); opt.step()
            rl_loss = -(choice.log_prob(action).sum(1) * torch.zeros(8)).mean()  # <- here
            popt.zero_grad(); rl_loss.backward(); popt.step()
        """,
    ),
    "class indices made floats broadcast in silence where the batch is as large as the classes are many": (
        "dtype",
        """
        net = nn.Conv2d(1, 8, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        grid, out = torch.randn(8, 1, 5, 5), torch.randint(0, 8, (8, 5, 5))
        for _ in range(2):
            target = out.float()  # <- here
            loss = F.kl_div(net(grid).log_softmax(1), target, reduction="batchmean")
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    ),
    "a write through data is a cut although the memory is shared": (
        "data",
        """
        enc, rnn = nn.Linear(4, 3), nn.Linear(3, 2)
        opt = torch.optim.SGD([*enc.parameters(), *rnn.parameters()], lr=0.1)
        for _ in range(2):
            out = torch.zeros(8, 3)
            for i, row in enumerate(enc(x)):
                out[i].data.copy_(row)  # <- here
            opt.zero_grad()
            F.mse_loss(rnn(out), y).backward()
            opt.step()
        """,
    ),
    "gradients switched off by a call stay off through the distributions of torch": (
        "no-grad",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def evaluate():
            torch.set_grad_enabled(False)  # <- here
            return torch.distributions.Categorical(logits=net(x)).probs.argmax(1)
        try:
            evaluate()
            dist = torch.distributions.Categorical(logits=net(x))
            loss = -dist.log_prob(torch.zeros(8)).mean()
            opt.zero_grad()
            loss.backward()
        finally:
            torch.set_grad_enabled(True)
        """,
    ),
    "a regulariser added as a number is a dead term": (
        "item",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def l1(model):
            return sum(p.abs().sum().item() for p in model.parameters())  # <- here
        for _ in range(3):
            loss = F.mse_loss(net(x), y) + 0.1 * l1(net)
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    ),
    "everything frozen is named where it was frozen": (
        "frozen",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def set_parameter_requires_grad(model):
            for p in model.parameters():
                p.requires_grad = False  # <- here
        set_parameter_requires_grad(net)
        F.mse_loss(net(x), y).backward()
        """,
    ),
    "tensors packed by FloatTensor in a helper are rewrapped there": (
        "rewrap",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def totals(rows):
            parts = [r.sum() for r in rows]
            return torch.FloatTensor(parts)  # <- here
        totals(net(x)).mean().backward()
        """,
    ),
    "an optimizer that is zeroed and fed but never steps is named beside the one that steps": (
        "step-missing",
        """
        enc, dec = nn.Linear(4, 3), nn.Linear(3, 2)
        enc_opt, dec_opt = torch.optim.SGD(enc.parameters(), lr=0.1), torch.optim.SGD(dec.parameters(), lr=0.1)
        for _ in range(4):
            enc_opt.zero_grad(); dec_opt.zero_grad()
            F.mse_loss(dec(enc(x)), y).backward()
            dec_opt.step()  # <- here
        """,
    ),
    "a loss that is a number has its backward followed to where the tensors left": (
        "item",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def total(batch):
            return sum(F.mse_loss(net(a), b).item() for a, b in batch)  # <- here
        loss = total([(x, y), (x, y)])
        loss.backward()
        """,
    ),
    "a cut in an earlier function is found behind two callers and a dict": (
        "numpy",
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        def as_array(t):
            return t.detach().numpy()  # <- here
        def metrics(out):
            return {"mse": ((as_array(out) - y.numpy()) ** 2).mean()}
        loss = torch.tensor(metrics(net(x))["mse"], requires_grad=True)
        opt.zero_grad()
        loss.backward()
        opt.step()
        """,
    ),
}

HEALTHY = {
    "a decoder that is left out after the pretraining": """
        enc, dec, head = nn.Linear(4, 3), nn.Linear(3, 4), nn.Linear(3, 2)
        opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(dec(enc(x)), x).backward(); opt.step()
        opt = torch.optim.Adam([*enc.parameters(), *head.parameters()])
        for _ in range(2):
            opt.zero_grad(); F.mse_loss(head(enc(x)), y).backward(); opt.step()
        """,
    "an expert that is not routed to": """
        experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
        opt = torch.optim.SGD(experts.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad(); F.mse_loss(experts[1](x), y).backward(); opt.step()
        """,
    "gradients that decay instead of being cleared": """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            F.mse_loss(net(x), y).backward(); opt.step()
            for p in net.parameters():
                p.grad *= 0.9
        """,
    "a discriminator that is frozen while the generator trains": """
        g, d = nn.Linear(4, 3), nn.Linear(3, 1)
        og, od = torch.optim.Adam(g.parameters()), torch.optim.Adam(d.parameters())
        def toggle(on):
            for p in d.parameters():
                p.prev_requires_grad = p.requires_grad
                p.requires_grad_(on)
        for _ in range(3):
            toggle(True)
            od.zero_grad(); (d(torch.randn(8, 3)).pow(2).mean() - d(g(x).detach()).mean()).backward(); od.step()
            toggle(False)
            og.zero_grad(); (-d(g(x)).mean()).backward(); og.step()
        """,
    "an image optimised through a network that requires grad": """
        net, image = nn.Linear(4, 2), torch.randn(8, 4, requires_grad=True)
        opt = torch.optim.LBFGS([image], max_iter=2)
        def closure():
            opt.zero_grad(); loss = F.mse_loss(net(image), y); loss.backward(); return loss
        for _ in range(3):
            opt.step(closure)
        """,
    "the old policy's log-probability inside a penalty": """
        net = nn.Linear(4, 2)
        opt = torch.optim.Adam(net.parameters())
        with torch.no_grad():
            old = net(x).log_softmax(1)
        for _ in range(3):
            loss = F.mse_loss(net(x), y) + (net(x).log_softmax(1) - old).mean()
            opt.zero_grad(); loss.backward(); opt.step()
        """,
    "an input that needs its own gradient": """
        net = nn.Linear(4, 1)
        opt = torch.optim.Adam(net.parameters())
        def step():
            z = x.clone().requires_grad_(True)
            w = z * 1.0
            out = net(w)
            slope, = torch.autograd.grad(out.sum(), z, create_graph=True)
            opt.zero_grad(); (out.pow(2).mean() + slope.pow(2).mean()).backward(); opt.step()
        for _ in range(3):
            step()
        """,
    "a LoRA pair in its only step": """
        base = nn.Linear(4, 2).requires_grad_(False)
        a, b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(2, 2))
        opt = torch.optim.AdamW([a, b])
        F.mse_loss(base(x) + x @ a.t() @ b.t(), y).backward()
        opt.step()
        """,
    "a straight-through estimator": """
        enc, dec = nn.Linear(4, 3), nn.Linear(3, 2)
        opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
        for _ in range(3):
            z = enc(x)
            q = z + (z.round() - z).detach()
            opt.zero_grad(); F.mse_loss(dec(q), y).backward(); opt.step()
        """,
    "an advantage that left torch and came back as a weight": """
        pi, v = nn.Linear(4, 2), nn.Linear(4, 1)
        opt = torch.optim.Adam([*pi.parameters(), *v.parameters()])
        for _ in range(3):
            dist = torch.distributions.Categorical(logits=pi(x))
            a = dist.sample()
            rewards = [float(r) for r in (a == 1)]
            value = v(x).squeeze(1)
            adv = torch.tensor(rewards) - torch.tensor(value.tolist())
            loss = -(dist.log_prob(a) * adv).mean() + F.mse_loss(value, torch.tensor(rewards))
            opt.zero_grad(); loss.backward(); opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_mechanism_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    report, marked, _ = check(body, f"broken{list(BROKEN).index(name)}")
    assert report.findings, "nothing found"
    first = report.findings[0]
    assert (first.cause, first.location.line) in [(cause, line) for line in marked], [(f.cause, str(f.location)) for f in report.findings]
    assert first.location.cell == 7 and first.location.file is None


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    report, _, error = check(HEALTHY[name], f"healthy{list(HEALTHY).index(name)}")
    assert error is None
    assert [(f.cause, f.title) for f in report.findings if f.severity != "info"] == []
    assert torch.is_grad_enabled()


def test_of_two_argmax_in_one_line_the_one_that_had_a_gradient_to_lose_is_named():
    report, marked, _ = check(
        """
        net = nn.Linear(4, 2)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            with torch.no_grad():
                before = net(0 * x)
            after = net(x)
            gain = (before.argmax(1) == 0).float().mean() - (after.argmax(1) == 0).float().mean()  # <- here
            loss = F.mse_loss(after, y) + 0.3 * gain
            opt.zero_grad(); loss.backward(); opt.step()
        """,
        "two-argmax",
    )
    assert [(f.cause, f.location.line) for f in report.findings] == [("nondifferentiable", marked[0])]
    assert report.findings[0].title.startswith("`after.argmax(1)`")


def test_a_single_parameter_that_is_not_used_is_named_once_in_each_part_of_its_finding():
    for use, said in (("pass", "takes no part in the loss"), ("y = self.body(x) * self.scale", "what is computed from")):
        report, _, _ = check(
            f"""
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.body, self.scale = nn.Linear(4, 2), nn.Parameter(torch.ones(2))
                def forward(self, x):
                    {use}
                    return self.body(x)
            net = Net()
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(2):
                opt.zero_grad(); net(x).sum().backward(); opt.step()
            """,
            "single",
        )
        (finding,) = report.findings
        assert finding.cause == "unused" and said in finding.title and finding.title.count("`scale`") == 1
        assert "`scale`" not in finding.explanation and "called" not in finding.title + finding.fix and "layer" not in finding.fix
