"""Healthy programs, the rest: games of two networks, reinforcement learning, self-supervision, odd losses and optimizers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.distributions import Categorical
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


class Corridor:
    """Eight places; each step costs 1 until the right end is reached: every return is negative, and it rises with skill."""

    def __init__(self) -> None:
        self.place, self.age = 0, 0

    def state(self) -> torch.Tensor:
        return F.one_hot(torch.tensor(self.place), 8).float()

    def step(self, action: int) -> tuple[float, bool]:
        self.place = min(7, max(0, self.place + (1 if action else -1)))
        self.age += 1
        return -1.0, self.place == 7 or self.age >= 50


def q_learning(watch: Watch, steps: int = 600) -> Any:
    """A DQN: replay, target network, a loss that rises while the values grow, negative returns that rise."""
    online = mlp(8, 32, 2)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3)
    monitor = watch(online, optimizer)
    memory: list[tuple[torch.Tensor, int, float, torch.Tensor, float]] = []
    world, total = Corridor(), 0.0
    for step in range(steps):
        state = world.state()
        explore = torch.rand(()).item() < max(0.1, 1 - step / 300)
        action = int(torch.randint(2, ()).item()) if explore else int(online(state).argmax())
        reward, done = world.step(action)
        total += reward
        memory.append((state, action, reward, world.state(), float(done)))
        if done:
            monitor.log(reward=total)
            world, total = Corridor(), 0.0
        if len(memory) < 32:
            continue
        picks = [memory[i] for i in torch.randint(len(memory), (32,)).tolist()]
        states, after = torch.stack([p[0] for p in picks]), torch.stack([p[3] for p in picks])
        actions, rewards, ends = (torch.tensor([p[i] for p in picks]) for i in (1, 2, 4))
        with torch.no_grad():
            goal = rewards + 0.98 * (1 - ends) * target(after).max(-1).values
        loss = F.smooth_l1_loss(online(states).gather(-1, actions[:, None]).squeeze(-1), goal)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(online.parameters(), 100)
        optimizer.step()
        monitor.log(loss=loss.item())
        if step % 50 == 0:
            target.load_state_dict(online.state_dict())
    return monitor


def reinforce(watch: Watch, steps: int = 300) -> Any:
    """REINFORCE with a running baseline: the loss hovers around 0 and says nothing."""
    policy = mlp(4, 32, 3, act=nn.Tanh)
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    monitor = watch(policy, optimizer, activations=True)
    baseline = 0.0
    for _ in range(steps):
        state = torch.randn(32, 4)
        chosen = Categorical(logits=policy(state))
        action = chosen.sample()
        reward = torch.where(action == state[:, :3].argmax(-1), 0.0, -1.0)
        loss = -(chosen.log_prob(action) * (reward - baseline)).mean() - 0.01 * chosen.entropy().mean()
        baseline += 0.1 * (reward.mean().item() - baseline)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), reward=reward.mean().item())
    return monitor


def actor_critic(watch: Watch, steps: int = 400) -> Any:
    """DDPG-like: the actor's loss runs through the critic, whose gradients of that pass are thrown away."""
    actor = nn.Sequential(*mlp(3, 32, 1), nn.Tanh())
    critic = mlp(4, 32, 1)
    moves = torch.optim.Adam(actor.parameters(), lr=5e-4)
    judges = torch.optim.Adam(critic.parameters(), lr=2e-3)
    monitor = watch({"actor": actor, "critic": critic}, [moves, judges])
    for _ in range(steps):
        state = torch.randn(64, 3)
        action = (actor(state).detach() + 0.3 * torch.randn(64, 1)).clamp(-1, 1)
        reward = -((action.squeeze(-1) - 0.8 * state[:, 0].clamp(-1, 1)) ** 2)
        value = F.mse_loss(critic(torch.cat([state, action], -1)).squeeze(-1), reward)
        judges.zero_grad()
        value.backward()
        judges.step()
        loss = -critic(torch.cat([state, actor(state)], -1)).mean()
        moves.zero_grad()
        loss.backward()
        moves.step()
        monitor.log(loss=loss.item(), critic_loss=value.item(), reward=reward.mean().item())
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
