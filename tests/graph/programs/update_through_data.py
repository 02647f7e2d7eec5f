"""Updates by hand through .data."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
for _ in range(3):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    net.zero_grad()
    loss.backward()
    for q in net.parameters():
        q.data = q.data - 0.1 * q.grad.data
