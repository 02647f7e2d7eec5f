"""Operations with several results."""

import torch
from torch import nn

torch.manual_seed(0)
a = nn.Linear(6, 6)
opt = torch.optim.SGD(a.parameters(), lr=0.1)
for step in range(2):
    y = a(torch.randn(4, 6))
    u, v, w = y.chunk(3, 1)
    s, i = torch.sort(u, 1)
    m, j = w.max(1)
    vals, idx = v.topk(1, 1)
    loss = s[:, 0].mean() + m.mean() + vals.mean() + torch.stack([u, v]).mean() + torch.cat([u, w], 1).var()
    opt.zero_grad()
    loss.backward()
    opt.step()
