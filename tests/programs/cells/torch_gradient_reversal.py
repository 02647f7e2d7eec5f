import torch
import torch.nn.functional as F
from torch import nn


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.weight * gradient, None


features, label, domain = nn.Sequential(nn.Linear(8, 16), nn.ReLU()), nn.Linear(16, 3), nn.Linear(16, 2)
optimizer = torch.optim.Adam([*features.parameters(), *label.parameters(), *domain.parameters()], lr=1e-3)
source, target = torch.randn(32, 8), torch.randn(32, 8) + 1
y = torch.randint(3, (32,))
for step in range(5):
    weight = 2 / (1 + 2.718 ** (-10 * step / 5)) - 1 + 0.1
    hs, ht = features(source), features(target)
    loss = F.cross_entropy(label(hs), y)
    both = domain(Reverse.apply(torch.cat([hs, ht]), weight))
    loss = loss + F.cross_entropy(both, torch.cat([torch.zeros(32), torch.ones(32)]).long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
