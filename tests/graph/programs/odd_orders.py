"""Nested modules, called in an order of their own."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.b = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.c = nn.Linear(6, 2)

    def forward(self, x):
        y = self.a[0](x)
        z = self.b[0](y)
        y = self.a[1](z)
        z = self.b[1](y)
        return self.c(self.a(self.b(self.a[0](z))))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
