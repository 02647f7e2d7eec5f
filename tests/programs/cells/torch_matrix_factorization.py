import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
users, items = rng.integers(0, 30, 400), rng.integers(0, 40, 400)
ratings = rng.normal(3.5, 1.0, 400).astype(np.float32)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.user_bias, self.item_bias = nn.Embedding(30, 1), nn.Embedding(40, 1)
        self.mean = nn.Parameter(torch.tensor(float(ratings.mean())))

    def forward(self, u, i):
        return self.mean + (self.user(u) * self.item(i)).sum(1) + self.user_bias(u).squeeze(1) + self.item_bias(i).squeeze(1)


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
errors = []
for epoch in range(2):
    order = rng.permutation(400)
    for start in range(0, 400, 100):
        part = order[start : start + 100]
        u, i, r = (torch.from_numpy(a[part]) for a in (users, items, ratings))
        predicted = model(u, i)
        loss = ((predicted - r) ** 2).mean() + 1e-4 * (model.user(u).norm() + model.item(i).norm())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(np.sqrt(np.mean((predicted.detach().numpy() - r.numpy()) ** 2)))
