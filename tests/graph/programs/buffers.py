"""Buffers that the user writes, with and without a history."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.bn = nn.BatchNorm1d(6)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("count", torch.tensor(0))
        self.o = nn.Linear(6, 2)

    def forward(self, x):
        y = self.bn(self.a(x))
        self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        self.count += 1
        with torch.no_grad():
            self.mean.copy_(0.9 * self.mean + 0.1 * y.mean(0))
        return self.o(y - self.mean)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
