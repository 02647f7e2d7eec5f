"""Updates by hand through in-place operations."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
for _ in range(3):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    with torch.no_grad():
        for q in net.parameters():
            q -= 0.1 * q.grad
            q.grad = None
