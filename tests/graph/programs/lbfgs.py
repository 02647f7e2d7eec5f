"""A closure that is called several times a step."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
net = nn.Linear(6, 2)
opt = torch.optim.LBFGS(net.parameters(), max_iter=3)
x = torch.randn(8, 6)
t = torch.randn(8, 2)


def closure():
    opt.zero_grad()
    loss = F.mse_loss(net(x), t)
    loss.backward()
    return loss


for _ in range(2):
    opt.step(closure)
