"""Inner steps that are differentiated."""

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    fast = dict(net.named_parameters())
    x = torch.randn(4, 6)
    for k in range(2):
        inner = functional_call(net, fast, (x,)).pow(2).mean()
        g = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
        fast = {n: p - 0.1 * q for (n, p), q in zip(fast.items(), g)}
    loss = functional_call(net, fast, (torch.randn(4, 6),)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
