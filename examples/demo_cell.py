import numpy as np
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

torch.manual_seed(7)
rng = np.random.default_rng(7)


class ActorCritic(nn.Module):
    """A small humanoid stand-in: four joints to hold upright, two motors."""

    def __init__(self, obs_size=4, act_size=2, width=32):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(obs_size, width), nn.Tanh(), nn.Linear(width, act_size))
        self.log_std = nn.Parameter(torch.full((act_size,), -0.5))
        self.critic = nn.Sequential(nn.Linear(obs_size, width), nn.Tanh(), nn.Linear(width, 1))

    def dist(self, obs):
        return Normal(self.actor(obs), self.log_std.exp())

    def get_value(self, obs):
        """For the rollout workers, which live in NumPy."""
        with torch.no_grad():
            value = self.critic(torch.as_tensor(obs, dtype=torch.float32))
        return value.squeeze(-1).numpy()


def rollout(net, length=96, gamma=0.95):
    obs, acts, rewards = [rng.normal(size=4)], [], []
    for _ in range(length):
        act = net.dist(torch.tensor(obs[-1], dtype=torch.float32)).sample().numpy()
        acts.append(act)
        rewards.append(1.0 - np.abs(obs[-1]).mean() - 0.05 * np.square(act).sum())
        obs.append(0.9 * obs[-1] + 0.2 * np.repeat(act, 2) + 0.05 * rng.normal(size=4))
    returns = np.zeros(length)
    running = 0.0
    for t in reversed(range(length)):
        running = rewards[t] + gamma * running
        returns[t] = running
    return [torch.tensor(np.array(a), dtype=torch.float32) for a in (obs[:-1], acts, returns)]


def flatten(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def natural_step(net, obs, acts, advantage, max_kl=0.02, damping=0.1):
    """One TRPO update of the actor: conjugate gradient on the Fisher matrix, then one scaled step."""
    params = [*net.actor.parameters(), net.log_std]
    with torch.no_grad():
        old = net.dist(obs)
        old_logp = old.log_prob(acts).sum(-1)
    surrogate = ((net.dist(obs).log_prob(acts).sum(-1) - old_logp).exp() * advantage).mean()
    gradient = flatten(torch.autograd.grad(surrogate, params))

    def fisher(v):
        kl = kl_divergence(old, net.dist(obs)).sum(-1).mean()
        first = flatten(torch.autograd.grad(kl, params, create_graph=True))
        return flatten(torch.autograd.grad(first @ v, params)) + damping * v

    x, r, p = torch.zeros_like(gradient), gradient.clone(), gradient.clone()
    for _ in range(8):
        product = fisher(p)
        alpha = r @ r / (p @ product)
        x, new = x + alpha * p, r - alpha * product
        p, r = new + (new @ new) / (r @ r) * p, new
    step = x * torch.sqrt(2 * max_kl / (x @ fisher(x)))
    with torch.no_grad():
        for param, part in zip(params, step.split([p.numel() for p in params]), strict=True):
            param += part.view_as(param)


def fit_critic(net, optimizer, obs, returns, epochs=4):
    for _ in range(epochs):
        for rows in torch.randperm(len(obs)).split(32):
            values = torch.FloatTensor(net.get_value(obs[rows].numpy()))
            loss = nn.functional.mse_loss(values, returns[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


net = ActorCritic()
critic_optimizer = torch.optim.Adam(net.critic.parameters(), lr=3e-3)
for iteration in range(3):
    obs, acts, returns = rollout(net)
    advantage = returns - torch.from_numpy(net.get_value(obs.numpy()))
    natural_step(net, obs, acts, (advantage - advantage.mean()) / advantage.std())
    print(f"iteration {iteration}: return {returns.mean():.2f}, critic loss {fit_critic(net, critic_optimizer, obs, returns):.3f}")
