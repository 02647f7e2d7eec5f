"""Layers run by a generator."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def stages(x):
    for m in net:
        x = m(x)
        yield x


for _ in range(2):
    *_, y = stages(torch.randn(4, 6))
    loss = y.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
