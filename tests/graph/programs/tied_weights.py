"""A weight that two modules share."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(10, 6)
        self.h = nn.Linear(6, 10, bias=False)
        self.h.weight = self.e.weight

    def forward(self, x):
        ids = x.argmax(1)
        return self.h(self.e(ids))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
