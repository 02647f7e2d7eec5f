import torch
import torch.nn.functional as F
from torch import nn


class Dueling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.value, self.advantage = nn.Sequential(nn.Linear(4, 32), nn.ReLU()), nn.Linear(32, 1), nn.Linear(32, 3)

    def forward(self, x):
        h = self.body(x)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(dim=1, keepdim=True)


policy = Dueling()
target = Dueling()
target.load_state_dict(policy.state_dict())
target.eval()
optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4, amsgrad=True)
for step in range(6):
    state, action, reward = torch.randn(32, 4), torch.randint(3, (32, 1)), torch.randn(32)
    following, alive = torch.randn(32, 4), (torch.rand(32) > 0.1).float()
    chosen = policy(state).gather(1, action).squeeze(1)
    with torch.no_grad():
        best = policy(following).argmax(1, keepdim=True)
        value = target(following).gather(1, best).squeeze(1)
    expected = reward + 0.99 * value * alive
    loss = F.smooth_l1_loss(chosen, expected)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy.parameters(), 100)
    optimizer.step()
    target_state, policy_state = target.state_dict(), policy.state_dict()
    for name in policy_state:
        target_state[name] = policy_state[name] * 0.005 + target_state[name] * 0.995
    target.load_state_dict(target_state)
