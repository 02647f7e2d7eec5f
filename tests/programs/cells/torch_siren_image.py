import math

import torch
from torch import nn


class Sine(nn.Module):
    def __init__(self, inside, outside, first=False):
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        with torch.no_grad():
            bound = 1 / inside if first else math.sqrt(6 / inside) / 30
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x):
        return torch.sin(30 * self.linear(x))


model = nn.Sequential(Sine(2, 32, True), Sine(32, 32), nn.Linear(32, 1))
optimizer = torch.optim.Adam(lr=1e-4, params=model.parameters())
grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij"), dim=-1).reshape(-1, 2)
image = torch.exp(-4 * grid.pow(2).sum(1, keepdim=True))
slopes = -8 * grid * image
for step in range(6):
    coordinates = grid.clone().detach().requires_grad_(True)
    out = model(coordinates)
    gradient = torch.autograd.grad(out, coordinates, grad_outputs=torch.ones_like(out), create_graph=True)[0]
    loss = ((out - image) ** 2).mean() + 0.1 * ((gradient - slopes) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if not step % 3:
        laplace = torch.autograd.grad(model(coordinates).sum(), coordinates)[0].norm().item()
