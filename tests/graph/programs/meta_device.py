"""A model on the meta device."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6, device="meta"), nn.ReLU(), nn.Linear(6, 2, device="meta"))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
loss = net(torch.randn(4, 6, device="meta")).pow(2).mean()
loss.backward()
opt.step()
