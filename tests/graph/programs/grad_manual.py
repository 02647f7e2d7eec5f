"""autograd.grad and updates by hand."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
ps = list(net.parameters())
for step in range(2):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    gs = torch.autograd.grad(loss, ps)
    with torch.no_grad():
        for a, g in zip(ps, gs):
            a -= 0.1 * g
