"""functional_call with weights computed from the parameters."""

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    ps = {k: v * 1.0 for k, v in net.named_parameters()}
    loss = functional_call(net, ps, (torch.randn(4, 6),)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
