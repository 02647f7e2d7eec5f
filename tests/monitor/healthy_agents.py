"""Healthy programs, the agents: losses that rise or say nothing, rewards below zero that rise, networks that take turns."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

from tests.monitor.healthy import Watch, mlp


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


def proximal_policy(watch: Watch, steps: int = 320) -> Any:
    """PPO: several epochs on one batch of experience, a clipped ratio, a value loss beside it, clipping at 0.5, a small last layer."""
    policy, value = mlp(4, 32, 32, 3, act=nn.Tanh), mlp(4, 32, 32, 1, act=nn.Tanh)
    nn.init.normal_(policy[-1].weight, std=0.01)
    parameters = [*policy.parameters(), *value.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-4, eps=1e-5)
    monitor = watch({"policy": policy, "value": value}, optimizer, activations=True)
    for _ in range(steps // 16):
        state = torch.randn(256, 4)
        with torch.no_grad():
            chosen = Categorical(logits=policy(state))
            action = chosen.sample()
            before = chosen.log_prob(action)
            reward = torch.where(action == state[:, :3].argmax(-1), 1.0, -1.0) + 0.5 * torch.randn(256) - 2
            advantage = reward - value(state).squeeze(-1)
            advantage = (advantage - advantage.mean()) / advantage.std()
        monitor.log(reward=reward.mean().item())
        for rows in [rows for _ in range(4) for rows in torch.randperm(256).split(64)]:
            now = Categorical(logits=policy(state[rows]))
            ratio = (now.log_prob(action[rows]) - before[rows]).exp()
            gain = torch.min(ratio * advantage[rows], ratio.clamp(0.8, 1.2) * advantage[rows]).mean()
            miss = F.mse_loss(value(state[rows]).squeeze(-1), reward[rows])
            loss = -gain + 0.5 * miss - 0.01 * now.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
            monitor.log(loss=loss.item(), value_loss=miss.item())
    return monitor
