import torch
import torch.nn.functional as F
from torch import nn

encoder = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16, affine=False))
predictor = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16))
optimizer = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9)


def distance(p, z):
    return -F.cosine_similarity(p, z.detach(), dim=-1).mean()


data = torch.randn(64, 10)
for step in range(5):
    batch = data[torch.randperm(64)[:16]]
    one, two = (batch + 0.1 * torch.randn_like(batch) for _ in range(2))
    z1, z2 = encoder(one), encoder(two)
    p1, p2 = predictor(z1), predictor(z2)
    loss = distance(p1, z2) / 2 + distance(p2, z1) / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    spread = F.normalize(z1.detach(), dim=1).std(0).mean().item()
