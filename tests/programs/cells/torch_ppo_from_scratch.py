import numpy as np
import torch
from torch import nn
from torch.distributions import Normal


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        self.critic = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_std = nn.Parameter(torch.zeros(1))

    def distribution(self, obs):
        return Normal(self.actor(obs), self.log_std.exp().expand(len(obs), 1))


agent = ActorCritic()
optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
rng = np.random.default_rng(1)
for iteration in range(2):
    obs, acts, logps, rews, vals = [], [], [], [], []
    state = rng.normal(size=3).astype(np.float32)
    for _ in range(64):
        with torch.no_grad():
            s = torch.from_numpy(state)[None]
            pi = agent.distribution(s)
            a = pi.sample()
            obs.append(state), acts.append(a.numpy()[0]), logps.append(pi.log_prob(a).sum().item()), vals.append(agent.critic(s).item())
        state = (0.9 * state + 0.1 * acts[-1] + 0.05 * rng.normal(size=3)).astype(np.float32)
        rews.append(-float(np.square(state).sum()))
    advantage, last = np.zeros(64, np.float32), 0.0
    for t in reversed(range(64)):
        following = vals[t + 1] if t < 63 else 0.0
        delta = rews[t] + 0.99 * following - vals[t]
        advantage[t] = last = delta + 0.99 * 0.95 * last
    returns = torch.as_tensor(advantage + np.array(vals, np.float32))
    obs, acts, old = torch.as_tensor(np.array(obs)), torch.as_tensor(np.array(acts)), torch.as_tensor(logps)
    advantage = torch.as_tensor(advantage)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    for epoch in range(3):
        for part in torch.randperm(64).split(32):
            pi = agent.distribution(obs[part])
            logp = pi.log_prob(acts[part]).sum(1)
            ratio = (logp - old[part]).exp()
            with torch.no_grad():
                kl = ((ratio - 1) - (logp - old[part])).mean().item()
            clipped = torch.clamp(ratio, 0.8, 1.2) * advantage[part]
            policy_loss = -torch.min(ratio * advantage[part], clipped).mean()
            value_loss = 0.5 * (agent.critic(obs[part]).squeeze(1) - returns[part]).pow(2).mean()
            loss = policy_loss + 0.5 * value_loss - 0.01 * pi.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
        if kl > 0.5:
            break
