import copy
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

actor = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())
critic = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
actor_target, critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
replay = deque(maxlen=200)


def dynamics(state, action):
    following = 0.9 * state + 0.1 * action + 0.01 * torch.randn(3)
    return following, -following.pow(2).sum().item()


def act(state):
    with torch.no_grad():
        return (actor(state) + 0.1 * torch.randn(1)).clamp(-1, 1)


state = torch.randn(3)
for step in range(40):
    action = act(state)
    following, reward = dynamics(state, action)
    replay.append((state, action, reward, following))
    state = following if step % 20 else torch.randn(3)
    if len(replay) < 32:
        continue
    batch = random.sample(replay, 16)
    s, a, r, n = (
        torch.stack([b[0] for b in batch]),
        torch.stack([b[1] for b in batch]),
        torch.tensor([[b[2]] for b in batch]),
        torch.stack([b[3] for b in batch]),
    )
    with torch.no_grad():
        target = r + 0.99 * critic_target(torch.cat([n, actor_target(n)], 1))
    critic_loss = F.mse_loss(critic(torch.cat([s, a], 1)), target)
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    actor_loss = -critic(torch.cat([s, actor(s)], 1)).mean()
    actor_optimizer.zero_grad()
    actor_loss.backward()
    actor_optimizer.step()
    for net, target_net in ((actor, actor_target), (critic, critic_target)):
        for p, q in zip(net.parameters(), target_net.parameters()):
            q.data.copy_(0.005 * p.data + 0.995 * q.data)
