"""Straight-through estimation."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
enc = nn.Linear(6, 4)
dec = nn.Linear(4, 6)
book = nn.Embedding(8, 4)
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters(), *book.parameters()])
for step in range(2):
    x = torch.rand(4, 6)
    z = enc(x)
    i = torch.cdist(z, book.weight).argmin(1)
    q = book(i)
    st = z + (q - z).detach()
    loss = F.mse_loss(dec(st), x) + F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
    opt.zero_grad()
    loss.backward()
    opt.step()
