"""ParameterList, ParameterDict and ModuleDict, with one parameter that nothing uses."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ps = nn.ParameterList(nn.Parameter(torch.randn(6)) for _ in range(3))
        self.d = nn.ParameterDict({"k": nn.Parameter(torch.randn(6)), "never": nn.Parameter(torch.randn(6))})
        self.m = nn.ModuleDict({"lin": nn.Linear(6, 2)})

    def forward(self, x):
        for p in self.ps:
            x = x * p
        return self.m["lin"](x + self.d["k"])


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
