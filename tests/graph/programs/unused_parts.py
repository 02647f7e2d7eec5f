"""A branch that no loss depends on."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
other = nn.Linear(2, 2)
for step in range(2):
    y = net(torch.randn(4, 6))
    dead = other(y)
    loss = y.mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
