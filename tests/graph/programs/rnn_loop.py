"""Cells in a loop, and an LSTM."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(6, 6)
        self.lstm = nn.LSTM(6, 6, 2, batch_first=True)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        h = torch.zeros_like(x)
        for t in range(5):
            h = self.cell(x, h)
        y, _ = self.lstm(h.unsqueeze(1).repeat(1, 3, 1))
        return self.out(y[:, -1])


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
