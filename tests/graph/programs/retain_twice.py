"""A second backward through weights that were changed."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(1):
    y = net(torch.randn(4, 6))
    loss = y.pow(2).mean()
    opt.zero_grad()
    loss.backward(retain_graph=True)
    opt.step()
    opt.zero_grad()
    loss.backward()
    opt.step()
