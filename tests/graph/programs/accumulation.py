"""Three passes before each step."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    opt.zero_grad()
    for k in range(3):
        loss = net(torch.randn(4, 6)).pow(2).mean() / 3
        loss.backward()
    opt.step()
