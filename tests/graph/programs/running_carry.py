"""A state that is carried on, detached."""

import torch
from torch import nn

torch.manual_seed(0)
cell = nn.RNNCell(6, 6)
opt = torch.optim.SGD(cell.parameters(), lr=0.1)
h = torch.zeros(4, 6)
for step in range(3):
    h = h.detach()
    for t in range(3):
        h = cell(torch.randn(4, 6), h)
    loss = h.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
