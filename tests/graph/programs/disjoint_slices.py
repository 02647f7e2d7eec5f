"""Slices of one memory that are written between their uses."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    h = torch.zeros(4, 6)
    a = h[:2]
    b = h[2:]
    a.add_(net[0](torch.randn(2, 6)))
    c = b * 2
    b.add_(net[0](torch.randn(2, 6)))
    loss = net(h).sum() + c.sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
