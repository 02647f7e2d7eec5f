"""Healthy programs, the rest: games of two networks, self-supervision, odd losses and optimizers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.monitor.healthy import Watch, blobs, mlp


def gan(watch: Watch, steps: int = 300) -> Any:
    """Two players, two optimizers; neither loss falls, and the generator ends in a tanh."""
    generator = nn.Sequential(*mlp(4, 32, 2), nn.Tanh())
    critic = mlp(2, 32, 1, act=lambda: nn.LeakyReLU(0.2))
    first = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.99))
    second = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.99))
    monitor = watch({"generator": generator, "critic": critic}, [first, second], activations=True)
    one, zero = torch.ones(32, 1), torch.zeros(32, 1)
    for _ in range(steps):
        real = 0.5 + 0.1 * torch.randn(32, 2)
        fake = generator(torch.randn(32, 4))
        apart = F.binary_cross_entropy_with_logits(critic(real), one) + F.binary_cross_entropy_with_logits(critic(fake.detach()), zero)
        first.zero_grad()
        apart.backward()
        first.step()
        fooled = F.binary_cross_entropy_with_logits(critic(fake), one)
        second.zero_grad()
        fooled.backward()
        second.step()
        monitor.log(d_loss=apart.item(), loss=fooled.item())
    return monitor


def wasserstein(watch: Watch, steps: int = 300) -> Any:
    """A critic with a gradient penalty moves 20 times before the generator moves once; the loss is negative."""
    generator, critic = mlp(4, 32, 2), mlp(2, 32, 32, 1, act=nn.SiLU)
    slow = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))
    fast = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
    monitor = watch({"generator": generator, "critic": critic}, [slow, fast])
    for step in range(steps):
        real, fake = torch.randn(32, 2) + 2, generator(torch.randn(32, 4))
        if step % 21 == 20:
            loss = -critic(fake).mean()
            slow.zero_grad()
            loss.backward()
            slow.step()
            continue
        mixed = torch.lerp(real, fake.detach(), torch.rand(32, 1)).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        loss = critic(fake.detach()).mean() - critic(real).mean() + 10 * ((slope.norm(dim=-1) - 1) ** 2).mean()
        fast.zero_grad()
        loss.backward()
        fast.step()
        monitor.log(loss=loss.item())
    return monitor


def siamese(watch: Watch, steps: int = 300) -> Any:
    """Self-supervision with a stop-gradient branch and a teacher that follows by a running average."""
    student, predictor = mlp(16, 48, 24), mlp(24, 24, 24)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW([*student.parameters(), *predictor.parameters()], lr=1e-3)
    monitor = watch({"student": student, "predictor": predictor}, optimizer)
    x, _ = blobs()
    for _ in range(steps):
        batch = x[torch.randint(len(x), (32,))]
        one, two = batch + 0.3 * torch.randn_like(batch), batch + 0.3 * torch.randn_like(batch)
        loss = 2 - 2 * F.cosine_similarity(predictor(student(one)), teacher(two).detach(), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters()):
                slow.lerp_(fast, 0.02)
        monitor.log(loss=loss.item())
    return monitor


def hinge(watch: Watch, steps: int = 400) -> Any:
    """A margin loss on separable points: soon it is exactly zero, and so is every gradient."""
    x, y = blobs(noise=0.3)
    model = mlp(16, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.multi_margin_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def large_targets(watch: Watch, steps: int = 300) -> Any:
    """House prices without scaling: gradients of 1e5 and more, which Adam does not mind."""
    x = torch.randn(512, 8)
    y = 2e5 + 5e4 * x @ torch.randn(8, 1)
    model = mlp(8, 64, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def experts(watch: Watch, steps: int = 300) -> Any:
    """Eight experts, each input goes to one of them: many get no gradient in a step."""

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.experts = nn.Linear(16, 8), nn.ModuleList(mlp(16, 16, 4) for _ in range(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            share = self.gate(x).softmax(-1)
            weight, chosen = share.max(-1)
            out = torch.zeros(len(x), 4)
            for number in chosen.unique().tolist():
                rows = (chosen == number).nonzero().squeeze(-1)
                out = out.index_add(0, rows, weight[rows, None] * self.experts[number](x[rows]))
            spread = 8 * (share.mean(0) * F.one_hot(chosen, 8).float().mean(0)).sum()
            return torch.cat([out, spread.expand(len(x), 1)], -1)

    x, y = blobs(classes=4)
    model = Mixture()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (16,))
        out = model(x[rows])
        loss = F.cross_entropy(out[:, :4], y[rows]) + 0.1 * out[0, 4]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def memorised(watch: Watch, steps: int = 500) -> Any:
    """One small batch learned by heart: loss and gradients fall by many orders of magnitude together."""
    x, y = torch.randn(16, 8), torch.randint(3, (16,))
    model = mlp(8, 64, 64, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), accuracy=(model(x).argmax(-1) == y).float().mean().item())
    return monitor


def closures(watch: Watch, steps: int = 300) -> Any:
    """LBFGS with a line search: some twenty backward passes a step, tanh, second derivatives in the loss."""
    model = mlp(1, 16, 16, 1, act=nn.Tanh)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2, history_size=10, line_search_fn="strong_wolfe")
    monitor = watch(model, optimizer, activations=True)
    x = torch.linspace(0, 3, 24)[:, None].requires_grad_(True)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        y = model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        loss = ((slope + y) ** 2).mean() + (model(torch.zeros(1, 1)) - 1).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        monitor.log(loss=float(optimizer.step(closure)))
    return monitor


def residual_from_zero(watch: Watch, steps: int = 300) -> Any:
    """Twenty residual blocks whose branches start at exactly zero (ReZero): at first only the gates get a gradient."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.gate = mlp(24, 24, 24), nn.Parameter(torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.gate * self.inner(x)

    x, y = blobs()
    model = nn.Sequential(nn.Linear(16, 24), *(Block() for _ in range(12)), nn.Linear(24, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def distillation(watch: Watch, steps: int = 300) -> Any:
    """A frozen teacher that no optimizer holds is watched beside its student."""
    x, _ = blobs()
    teacher, student = mlp(16, 64, 4).requires_grad_(False), mlp(16, 16, 4)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    monitor = watch({"student": student, "teacher": teacher}, optimizer)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (32,))]
        loss = F.kl_div(student(batch).log_softmax(-1), teacher(batch).softmax(-1), reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor
