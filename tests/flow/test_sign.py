"""Losses that push the wrong way, and losses that look as if they did; means that are diluted, and means that are not."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named, assert_silent

SETUP = """
from torch.distributions import Categorical, Normal, kl_divergence
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
def step(loss, opt=opt):
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

POLICY = """
for _ in range(3):
    dist = Categorical(logits=net(x))
    actions = dist.sample()
    advantages = torch.randn(8)
    log_prob = dist.log_prob(actions)
    old = log_prob.detach()
    {loss}
"""

VARIATIONAL = """
enc, dec = nn.Linear(4, 6), nn.Linear(3, 4)
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
for _ in range(3):
    mu, logvar = enc(x).chunk(2, dim=1)
    z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
    fit = F.mse_loss(dec(z), x)
    {loss}
    step(loss, opt)
"""

ADVERSARIES = """
gen, judge = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1))
gen_opt, judge_opt = torch.optim.Adam(gen.parameters()), torch.optim.Adam(judge.parameters())
for _ in range(3):
    fake = gen(torch.randn(8, 3))
    {judge}
    {gen}
"""

BROKEN = {
    "an estimate of the entropy that is added": POLICY.format(
        loss="loss = -(log_prob * advantages).mean() + 0.1 * -log_prob.mean()  # <- here\n    step(loss)"
    ),
    "the clipped objective of PPO without its minus": POLICY.format(
        loss="ratio = (log_prob - old).exp()\n"
        "    gain = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()  # <- here\n    step(gain)"
    ),
    "log-probability times advantage without its minus": POLICY.format(
        loss="loss = (log_prob * advantages).mean()  # <- here\n    step(loss)"
    ),
    "an entropy that is added in a helper": """
        def bonus(loss, dist, weight=0.01):
            return loss + weight * dist.entropy().mean()  # <- here
        for _ in range(3):
            dist = Categorical(logits=net(x))
            step(bonus(-(dist.log_prob(dist.sample()) * torch.randn(8)).mean(), dist))
        """,
    "the likelihood of data that is minimised": """
        def loss_fn(out, target):
            mean, log_std = out.chunk(2, dim=1)
            return Normal(mean, log_std.exp()).log_prob(target).mean()  # <- here
        for _ in range(3):
            step(loss_fn(net(x), y[:, :1]))
        """,
    "a KL divergence that is subtracted": VARIATIONAL.format(
        loss="kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean()\n    loss = fit - 0.1 * kl  # <- here"
    ),
    "the closed form of a KL divergence that is subtracted where the terms meet": VARIATIONAL.format(
        loss="kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()\n    loss = fit - 0.1 * kl  # <- here"
    ),
    "the closed form of a KL divergence with its own sign wrong": VARIATIONAL.format(
        loss="kl = 0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()  # <- here\n    loss = fit + 0.1 * kl"
    ),
    "a bound that is turned as a whole, with a KL divergence that was added to it": VARIATIONAL.format(
        loss="kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()\n    bound = -fit + 0.1 * kl  # <- here\n    loss = -bound"
    ),
    "soft targets without a minus": """
        fixed = nn.Linear(4, 2).requires_grad_(False)
        def soft(logits, target, t=2.0):
            return (F.softmax(target / t, dim=1) * F.log_softmax(logits / t, dim=1)).sum(1).mean()  # <- here
        for _ in range(3):
            out = net(x)
            step(0.1 * F.cross_entropy(out, (y[:, 0] > 0).long()) + soft(out, fixed(x)))
        """,
    "the log-probability of labels without a minus": """
        def nll(out, labels):
            log_prob = torch.log_softmax(out, dim=1)
            return log_prob[torch.arange(8), labels].sum() / 8  # <- here
        for _ in range(3):
            step(nll(net(x), (y[:, 0] > 0).long()))
        """,
    "pairs that are ranked the wrong way round": """
        for _ in range(3):
            better, worse = net(x)[:, 0], net(x.roll(1, 0))[:, 0]
            step(F.logsigmoid(better - worse).mean())  # <- here
        """,
    "an overlap of masks without 1 minus, beside a cross entropy": """
        mask = (y > 0).float()
        def iou(p, m):
            inter = (p * m).sum(1)
            union = p.sum(1) + m.sum(1) - inter
            return ((inter + 1) / (union + 1)).mean()  # <- here
        for _ in range(3):
            out = net(x)
            step(F.binary_cross_entropy_with_logits(out, mask) + iou(out.sigmoid(), mask))
        """,
    "the similarity of two views that is minimised": """
        proj = nn.Linear(2, 2)
        opt = torch.optim.Adam([*net.parameters(), *proj.parameters()])
        for _ in range(3):
            one, two = net(x), net(x + 0.1 * torch.randn_like(x))
            loss = F.cross_entropy(proj(one), (y[:, 0] > 0).long()) + 0.5 * F.cosine_similarity(one, two).mean()  # <- here
            step(loss, opt)
        """,
    "an error measure with a minus": """
        for _ in range(3):
            loss = -F.mse_loss(net(x), y)  # <- here
            step(loss)
        """,
    "an optimizer that maximises an error measure": """
        opt = torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)  # <- here
        for _ in range(3):
            step(F.cross_entropy(net(x), (y[:, 0] > 0).long()), opt)
        """,
    "a generator whose loss is the discriminator's": ADVERSARIES.format(
        judge="step(F.binary_cross_entropy_with_logits(judge(y.repeat(1, 2)), torch.ones(8, 1))"
        " + F.binary_cross_entropy_with_logits(judge(fake.detach()), torch.zeros(8, 1)), judge_opt)",
        gen="loss = F.binary_cross_entropy_with_logits(judge(fake), torch.zeros(8, 1))  # <- here\n    step(loss, gen_opt)",
    ),
    "a Wasserstein generator that lowers its own score": ADVERSARIES.format(
        judge="step(judge(fake.detach()).mean() - judge(y.repeat(1, 2)).mean(), judge_opt)",
        gen="loss = judge(fake).mean()  # <- here\n    step(loss, gen_opt)",
    ),
    "an actor that minimises the value of its critic": """
        class Critic(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = nn.Linear(6, 1)
            def forward(self, s, a):
                return self.net(torch.cat([s, a], dim=1))
        critic = Critic()
        critic_opt = torch.optim.Adam(critic.parameters())
        for _ in range(3):
            reward = torch.randn(8, 1)
            step(F.mse_loss(critic(x, net(x).detach()), reward), critic_opt)
            loss = critic(x, net(x)).mean()  # <- here
            step(loss)
        """,
}

HEALTHY = {
    "a policy gradient with an entropy bonus": POLICY.format(
        loss="step(-(log_prob * advantages).mean() - 0.01 * dist.entropy().mean())",
    ),
    "the clipped objective of PPO with its minus": POLICY.format(
        loss="ratio = (log_prob - old).exp()\n"
        "    step(-torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean() - 0.01 * dist.entropy().mean())"
    ),
    "PPO as the larger of two losses": POLICY.format(
        loss="ratio = (log_prob - old).exp()\n    step(torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean())"
    ),
    "costs in the place of rewards": POLICY.format(loss="costs = torch.rand(8)\n    step((log_prob * costs).mean())"),
    "an objective for an optimizer that maximises": """
        opt = torch.optim.SGD(net.parameters(), lr=0.1, maximize=True)
        for _ in range(3):
            dist = Categorical(logits=net(x))
            step((dist.log_prob(dist.sample()) * torch.rand(8)).mean(), opt)
        """,
    "entropy of predictions that is to fall, as in adaptation without labels": """
        for _ in range(3):
            step(Categorical(logits=net(x)).entropy().mean())
        """,
    "a negative log-likelihood": """
        for _ in range(3):
            mean, log_std = net(x).chunk(2, dim=1)
            step(-Normal(mean, log_std.exp()).log_prob(y[:, :1]).mean())
        """,
    "soft actor-critic: temperature times log-probability minus value": """
        critic = nn.Linear(5, 1).requires_grad_(False)
        for _ in range(3):
            mean, log_std = net(x).chunk(2, dim=1)
            dist = Normal(mean, log_std.exp())
            action = dist.rsample()
            step((0.2 * dist.log_prob(action) - critic(torch.cat([x, action], dim=1))).mean())
        """,
    "a variational bound with the KL divergence added": VARIATIONAL.format(
        loss="loss = fit - 0.05 * (1 + logvar - mu.pow(2) - logvar.exp()).mean()"
    ),
    "soft targets with a minus in front, inside, or in another place": """
        fixed = nn.Linear(4, 2).requires_grad_(False)
        hard = F.one_hot((y[:, 0] > 0).long(), 2).float() * 0.9 + 0.05
        for _ in range(3):
            target, log_prob = F.softmax(fixed(x), dim=1), F.log_softmax(net(x), dim=1)
            kept = (hard * log_prob).sum(1)
            step(-(target * log_prob).sum(1).mean() + (target * -log_prob).sum(1).mean() - kept.mean())
        """,
    "a domain that is to be forgotten: soft targets pushed away by an explicit minus": """
        fixed = nn.Linear(4, 2).requires_grad_(False)
        for _ in range(3):
            out = net(x)
            forget = -(F.softmax(fixed(x), dim=1) * F.log_softmax(out, dim=1)).sum(1).mean()
            step(F.mse_loss(out, y) - 0.1 * forget)
        """,
    "one minus an overlap, and a mean weighed by what is learned": """
        mask, cost = (y > 0).float(), y.abs()
        for _ in range(3):
            p = net(x).sigmoid()
            dice = 2 * (p * mask).sum() / (p.sum() + mask.sum())
            step(1 - dice + (p * cost).sum() / p.sum())
        """,
    "the expected cost of sampled classes": """
        for _ in range(3):
            log_prob = F.log_softmax(net(x), dim=1)
            drawn = log_prob.exp().multinomial(1)
            chosen = log_prob.gather(1, drawn).squeeze(1)
            loss = sum(one * cost for one, cost in zip(chosen, torch.rand(8).tolist()))
            marked = (F.one_hot(drawn.squeeze(1), 2).float() * log_prob).sum(1)
            step((chosen * torch.rand(8)).mean() + loss / 8 + sum(one * cost for one, cost in zip(marked, torch.rand(8).tolist())))
        """,
    "pairs ranked right, and negatives pushed down beside positives": """
        for _ in range(3):
            good, bad = net(x)[:, 0], net(x.roll(1, 0))[:, 0]
            step(-F.logsigmoid(good - bad).mean() + F.logsigmoid(bad).mean() - F.logsigmoid(good).mean())
        """,
    "a perturbation that is to make the labels of a fixed network less probable": """
        net.requires_grad_(False)
        delta = torch.zeros(8, 4, requires_grad=True)
        opt = torch.optim.SGD([delta], lr=0.1)
        for _ in range(3):
            step(F.log_softmax(net(x + delta), dim=1).gather(1, (y[:, :1] > 0).long()).mean(), opt)
        """,
    "minus the similarity of two views": """
        for _ in range(3):
            one, two = net(x), net(x + 0.1 * torch.randn_like(x))
            step(-F.cosine_similarity(one, two.detach()).mean() / 2 - F.cosine_similarity(two, one.detach()).mean() / 2)
        """,
    "negatives that are pushed apart while pairs are pulled together": """
        for _ in range(3):
            one, two = net(x), net(x + 0.1 * torch.randn_like(x))
            apart = F.cosine_similarity(one, two.roll(1, 0)).clamp(min=0).mean()
            step(1 - F.cosine_similarity(one, two).mean() + apart)
        """,
    "a generator that wants to be taken for real": ADVERSARIES.format(
        judge="step(F.softplus(judge(fake.detach())).mean() + F.softplus(-judge(y.repeat(1, 2))).mean(), judge_opt)",
        gen="step(F.softplus(-judge(fake)).mean(), gen_opt)",
    ),
    "a Wasserstein critic and its generator": ADVERSARIES.format(
        judge="step(judge(fake.detach()).mean() - judge(y.repeat(1, 2)).mean(), judge_opt)", gen="step(-judge(fake).mean(), gen_opt)"
    ),
    "an actor that raises the value of its critic, beside one that lowers a learned cost": """
        critic, cost = nn.Linear(6, 1), nn.Linear(6, 1)
        both = torch.optim.Adam([*critic.parameters(), *cost.parameters()])
        for _ in range(3):
            seen = torch.cat([x, net(x).detach()], dim=1)
            reward, cost_to_go = torch.randn(8, 1), torch.rand(8, 1)
            step(F.mse_loss(critic(seen), reward) + F.mse_loss(cost(seen), cost_to_go), both)
            now = torch.cat([x, net(x)], dim=1)
            step(0.1 * cost(now).mean() - critic(now).mean())
        """,
    "a design that lowers what a fitted model predicts": """
        model, design = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)), nn.Parameter(torch.randn(3, 4))
        fit, opt = torch.optim.Adam(model.parameters()), torch.optim.Adam([design])
        for _ in range(3):
            step(F.mse_loss(model(x), x.pow(2).sum(1, keepdim=True)), fit)
            step(model(design).mean(), opt)
        """,
    "a perturbation that is to raise the error of a fixed network": """
        net.requires_grad_(False)
        delta = torch.zeros(8, 4, requires_grad=True)
        opt = torch.optim.SGD([delta], lr=0.1)
        for _ in range(3):
            step(-F.cross_entropy(net(x + delta), (y[:, 0] > 0).long()), opt)
        """,
    "features that are to hide a property from a second head": """
        body, task, probe = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 2)
        opt, probe_opt = torch.optim.Adam([*body.parameters(), *task.parameters()]), torch.optim.Adam(probe.parameters())
        labels, domain = (y[:, 0] > 0).long(), (y[:, 1] > 0).long()
        for _ in range(3):
            step(F.cross_entropy(probe(body(x).detach()), domain), probe_opt)
            h = body(x)
            step(F.cross_entropy(task(h), labels) - 0.1 * F.cross_entropy(probe(h), domain), opt)
        """,
    "a peak signal-to-noise ratio with a minus": """
        for _ in range(3):
            step(-10 * torch.log10(1 / F.mse_loss(net(x), y)))
        """,
}

PIXELS = """
model = nn.Conv2d(1, 3, 3, padding=1)
nn.init.constant_(model.bias[0], 9.0)
opt = torch.optim.SGD(model.parameters(), lr={rate})
images = torch.randn(4, 1, 12, 12)
mask = torch.zeros(4, 12, 12, dtype=torch.long)
mask[:, :{rows}, :3] = {label}
def mask_loss(scores, mask):
    return {loss}
for _ in range({steps}):
    step(mask_loss(model(images), mask), opt)
"""
PLAIN = {"rate": 0.01, "rows": 4, "label": 2, "steps": 3, "loss": "F.cross_entropy(scores, mask)  # <- here"}

WEIGHED = {
    "a weight for each class": {"loss": "F.cross_entropy(scores, mask, weight=torch.tensor([0.1, 1.0, 5.0]))"},
    "the background left out": {"loss": "F.cross_entropy(scores, mask.masked_fill(mask == 0, -1), ignore_index=-1)"},
    "nothing wrong": {"label": 0},
    "half of it wrong": {"rows": 12, "loss": "F.cross_entropy(scores[..., :6], mask[..., :6])"},
    "rare cells that improve from pass to pass": {"rate": 60.0, "steps": 5},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_term_with_the_wrong_sign_is_named_where_it_enters(name):
    assert_named("sign", SETUP + dedent(BROKEN[name]), f"sign{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_loss_that_is_right_is_left_in_peace(name):
    assert_silent(SETUP + dedent(HEALTHY[name]), f"right{list(HEALTHY).index(name)}")


def test_a_mean_over_cells_that_are_right_is_named_with_its_figures():
    finding = assert_named("diluted-loss", SETUP + PIXELS.format(**PLAIN), "diluted")
    assert finding.severity == "warning"
    assert "92 % of the 576 elements" in finding.title
    assert "the 48 wrong ones" in finding.explanation and "8 % of the weight" in finding.explanation


@pytest.mark.parametrize("name", WEIGHED)
def test_a_mean_that_is_not_diluted_is_left_in_peace(name):
    assert_silent(SETUP + PIXELS.format(**{**PLAIN, **WEIGHED[name]}), f"weighed{list(WEIGHED).index(name)}")
