"""A copied network as target."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    t = copy.deepcopy(net).eval()
    with torch.no_grad():
        y = t(torch.randn(4, 6))
    loss = F.mse_loss(net(torch.randn(4, 6)), y)
    t.load_state_dict(net.state_dict())
    opt.zero_grad()
    loss.backward()
    opt.step()
