"""Parameters changed in place under no_grad."""

import torch
from torch import nn

torch.manual_seed(0)
w = nn.Parameter(torch.zeros(4, 6))
b = nn.Parameter(torch.zeros(6))
opt = torch.optim.SGD([w, b], lr=0.1)
for step in range(2):
    with torch.no_grad():
        w[0] = 1.0
        w.clamp_(-1, 1)
        b.data.mul_(0.5)
    loss = (w * 2 + b).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
