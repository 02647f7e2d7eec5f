"""weight_norm and spectral_norm."""

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(
    nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Tanh(), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 2))
)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    loss = net(torch.randn(4, 6)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
