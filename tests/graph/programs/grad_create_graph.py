"""A gradient penalty."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    x = torch.randn(4, 6, requires_grad=True)
    y = net(x).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    loss = (g.norm(dim=1) - 1).pow(2).mean() + y.pow(2)
    opt.zero_grad()
    loss.backward()
    opt.step()
