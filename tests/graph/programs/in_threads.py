"""The forward pass in other threads."""

import threading

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    outs = [None] * 2

    def work(i, x):
        outs[i] = net(x)

    ts = [threading.Thread(target=work, args=(i, torch.randn(4, 6))) for i in range(2)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    loss = sum(o.pow(2).mean() for o in outs)
    opt.zero_grad()
    loss.backward()
    opt.step()
