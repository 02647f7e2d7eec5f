"""Lazy modules that are made in the cell."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(2))
net(torch.randn(4, 6))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
