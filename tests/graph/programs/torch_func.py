"""torch.func inside the loss."""

import torch
from torch import nn
from torch.func import grad, vmap

torch.manual_seed(0)
net = nn.Linear(6, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def f(w, x):
    return (x @ w).tanh().sum()


for _ in range(2):
    x = torch.randn(4, 6)
    g = grad(f)(net.weight[0], x)
    v = vmap(lambda a: (a * net.weight[0]).sum())(x)
    loss = g.pow(2).sum() + v.pow(2).mean() + net(x).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
