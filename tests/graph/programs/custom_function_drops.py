"""The backward of a Function drops the gradient of a whole network."""

import torch
from torch import nn

torch.manual_seed(0)


class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        return x * k.detach()

    @staticmethod
    def backward(ctx, g):
        return (None, g.sum())


a = nn.Linear(6, 6)
b = nn.Linear(6, 2)
k = nn.Parameter(torch.tensor(2.0))
opt = torch.optim.SGD([*a.parameters(), *b.parameters(), k], lr=0.1)
for step in range(3):
    loss = b(Gate.apply(a(torch.randn(4, 6)).relu(), k)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
