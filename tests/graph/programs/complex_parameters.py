"""Complex parameters."""

import torch
from torch import nn

torch.manual_seed(0)
w = nn.Parameter(torch.randn(6, 3, dtype=torch.cfloat))
opt = torch.optim.SGD([w], lr=0.01)
for _ in range(2):
    y = torch.fft.fft(torch.randn(4, 6).to(torch.cfloat) @ w)
    loss = (y * y.conj()).real.mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
