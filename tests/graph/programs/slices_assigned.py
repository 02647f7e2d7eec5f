"""A buffer is filled slice by slice."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.b = nn.Linear(6, 2)

    def forward(self, x):
        out = torch.zeros(3, x.shape[0], 6)
        for i, c in enumerate(self.cells):
            x = torch.tanh(c(x))
            out[i] = x
        return self.b(out.sum(0))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
