"""One module stands in several places."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.same = self.a
        self.b = nn.Sequential(self.a, nn.Tanh(), self.a)
        self.c = nn.Linear(6, 2)

    def forward(self, x):
        return self.c(self.b(self.same(self.a(x))) + self.a(x))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
