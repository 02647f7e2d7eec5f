"""Forward, backward and tensor hooks."""

import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 2)
        self.a.register_forward_hook(lambda m, i, o: o * 2)
        self.b.register_full_backward_hook(lambda m, gi, go: None)

    def forward(self, x):
        y = self.a(x)
        y.register_hook(lambda g: g * 0.5)
        return self.b(y.relu())


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    opt.zero_grad()
    loss = net(torch.randn(4, 6)).pow(2).mean()
    loss.backward()
    opt.step()
