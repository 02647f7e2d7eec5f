"""Two networks in turn; the generator runs before the step of the other one."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
G = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6))
D = nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1))
og = torch.optim.Adam(G.parameters(), lr=0.001)
od = torch.optim.Adam(D.parameters(), lr=0.001)
for _ in range(3):
    real = torch.randn(4, 6)
    fake = G(torch.randn(4, 3))
    ld = F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()
    od.zero_grad()
    ld.backward()
    od.step()
    lg = F.softplus(-D(fake)).mean()
    og.zero_grad()
    lg.backward()
    og.step()
