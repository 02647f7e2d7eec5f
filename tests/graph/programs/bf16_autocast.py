"""Autocast, and bfloat16 weights."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 2))
opt = torch.optim.AdamW(net.parameters())
for _ in range(2):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(net(torch.randn(4, 6)), torch.randint(0, 2, (4,)))
    opt.zero_grad()
    loss.backward()
    opt.step()
net2 = nn.Linear(6, 2).to(torch.bfloat16)
o2 = torch.optim.SGD(net2.parameters(), lr=0.1)
for _ in range(2):
    l = net2(torch.randn(4, 6).bfloat16()).float().pow(2).mean()
    o2.zero_grad()
    l.backward()
    o2.step()
