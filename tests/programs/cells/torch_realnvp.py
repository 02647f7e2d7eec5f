import math

import torch
from torch import nn


class Coupling(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)
        self.scale = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2), nn.Tanh())
        self.shift = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x):
        kept = x * self.mask
        s, t = self.scale(kept) * (1 - self.mask), self.shift(kept) * (1 - self.mask)
        return kept + (1 - self.mask) * (x * s.exp() + t), s.sum(dim=1)


flow = nn.ModuleList(Coupling(torch.tensor([i % 2, 1 - i % 2]).float()) for i in range(4))
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
for step in range(5):
    x = torch.randn(32, 2) * torch.tensor([2.0, 0.5]) + 1
    log_det = torch.zeros(32)
    for layer in flow:
        x, change = layer(x)
        log_det = log_det + change
    log_prob = -0.5 * (x**2).sum(dim=1) - math.log(2 * math.pi) + log_det
    loss = -log_prob.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
