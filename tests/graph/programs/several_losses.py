"""Several losses over one encoder."""

import torch
from torch import nn

torch.manual_seed(0)
enc = nn.Linear(6, 6)
a = nn.Linear(6, 2)
b = nn.Linear(6, 2)
unused_head = nn.Linear(6, 2)
opt = torch.optim.SGD([*enc.parameters(), *a.parameters(), *b.parameters()], lr=0.1)
for _ in range(2):
    opt.zero_grad()
    h = enc(torch.randn(4, 6)).tanh()
    la = a(h).pow(2).mean()
    lb = b(h).abs().mean()
    la.backward(retain_graph=True)
    lb.backward()
    opt.step()
for _ in range(1):
    opt.zero_grad()
    h = enc(torch.randn(4, 6)).tanh()
    torch.autograd.backward([a(h).pow(2).mean(), b(h).abs().mean()])
    opt.step()
