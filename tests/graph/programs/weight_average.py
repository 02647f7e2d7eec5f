"""An average of the weights as teacher."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
ema = copy.deepcopy(net)
for q in ema.parameters():
    q.requires_grad_(False)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for _ in range(3):
    x = torch.randn(4, 6)
    with torch.no_grad():
        t = ema(x)
    loss = F.mse_loss(net(x), t + torch.randn_like(t))
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for a, b in zip(ema.parameters(), net.parameters()):
            a.mul_(0.9).add_(b, alpha=0.1)
