"""A scripted function in between."""

import torch
from torch import nn

torch.manual_seed(0)


@torch.jit.script
def f(x):
    return (x * 2).tanh() + x


net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    loss = f(net(torch.randn(4, 6))).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
