"""A product with second derivatives."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    y = net(torch.randn(4, 6)).pow(2).mean()
    ps = list(net.parameters())
    g = torch.autograd.grad(y, ps, create_graph=True)
    loss = y + sum((a * torch.randn_like(a)).sum() for a in g)
    opt.zero_grad()
    loss.backward()
    opt.step()
