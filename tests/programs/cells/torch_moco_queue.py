import copy

import torch
import torch.nn.functional as F
from torch import nn

query = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16))
key = copy.deepcopy(query)
for p in key.parameters():
    p.requires_grad = False
queue = F.normalize(torch.randn(64, 16), dim=1)
pointer = 0
optimizer = torch.optim.SGD(query.parameters(), lr=0.1, momentum=0.9)
data = torch.randn(48, 10)
for step in range(6):
    batch = data[torch.randperm(48)[:16]]
    one, two = batch + 0.1 * torch.randn_like(batch), batch + 0.1 * torch.randn_like(batch)
    q = F.normalize(query(one), dim=1)
    with torch.no_grad():
        for a, b in zip(key.parameters(), query.parameters()):
            a.data = a.data * 0.99 + b.data * 0.01
        k = F.normalize(key(two), dim=1)
    positive = (q * k).sum(dim=1, keepdim=True)
    negative = q @ queue.clone().detach().t()
    logits = torch.cat([positive, negative], dim=1) / 0.2
    loss = F.cross_entropy(logits, torch.zeros(16, dtype=torch.long))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    queue[pointer : pointer + 16] = k
    pointer = (pointer + 16) % 64
