"""Some layers are frozen."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
net[0].requires_grad_(False)
net[2].bias.requires_grad_(False)
opt = torch.optim.SGD([q for q in net.parameters() if q.requires_grad], lr=0.1)
for step in range(2):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
