"""A loss on .grad."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    x = torch.randn(4, 6, requires_grad=True)
    net(x).pow(2).sum().backward(create_graph=True)
    pen = x.grad.pow(2).sum()
    pen.backward()
    opt.step()
