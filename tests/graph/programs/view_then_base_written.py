"""A view, and its base written behind it."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    h = net(torch.randn(4, 6)).clone()
    v = h[:2]
    h.mul_(2)
    w = v * 3
    loss = w.sum() + h.mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
