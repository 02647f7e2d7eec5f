"""A custom Function with several results."""

import torch
from torch import nn

torch.manual_seed(0)


class Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x * 0.5, (x * 0.5).exp() * 1.0)

    @staticmethod
    def backward(ctx, g, h):
        return g * 0.5 + h * 0.5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 2)

    def forward(self, x):
        u, v = Split.apply(self.a(x))
        return self.b(u * 2 + v)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
