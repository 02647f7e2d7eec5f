"""Two optimizers in turn."""

import torch
from torch import nn

torch.manual_seed(0)
enc = nn.Linear(6, 6)
head = nn.Linear(6, 2)
oe = torch.optim.SGD(enc.parameters(), lr=0.1)
oh = torch.optim.SGD(head.parameters(), lr=0.1)
for i in range(4):
    x = torch.randn(4, 6)
    if i % 2:
        loss = head(enc(x).detach()).pow(2).mean()
        oh.zero_grad()
        loss.backward()
        oh.step()
    else:
        loss = enc(x).pow(2).mean()
        oe.zero_grad()
        loss.backward()
        oe.step()
