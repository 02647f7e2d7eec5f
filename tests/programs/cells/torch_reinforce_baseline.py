import torch
from torch import nn
from torch.distributions import Categorical


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(4, 32), nn.Linear(32, 2), nn.Linear(32, 1)
        self.log_probs, self.values, self.rewards = [], [], []

    def forward(self, x):
        h = self.body(x).relu()
        return self.policy(h), self.value(h)


agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2)
eps = 1e-8
running = 0.0
for episode in range(5):
    state = torch.randn(4)
    for t in range(12):
        logits, value = agent(state)
        chosen = Categorical(logits=logits)
        action = chosen.sample()
        agent.log_probs.append(chosen.log_prob(action))
        agent.values.append(value)
        state = 0.9 * state + 0.1 * torch.randn(4) + (0.1 if action.item() else -0.1)
        agent.rewards.append(float(-state.abs().sum()))
    returns, future = [], 0.0
    for reward in reversed(agent.rewards):
        future = reward + 0.99 * future
        returns.insert(0, future)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    losses, value_losses = [], []
    for log_prob, value, ret in zip(agent.log_probs, agent.values, returns):
        advantage = ret - value.item()
        losses.append(-log_prob * advantage)
        value_losses.append(nn.functional.smooth_l1_loss(value, ret.view(1)))
    optimizer.zero_grad()
    loss = torch.stack(losses).sum() + torch.stack(value_losses).sum()
    loss.backward()
    optimizer.step()
    running = 0.9 * running + 0.1 * sum(agent.rewards)
    del agent.log_probs[:], agent.values[:], agent.rewards[:]
