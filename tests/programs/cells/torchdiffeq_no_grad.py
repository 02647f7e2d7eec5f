import torch
from torch import nn
from torchdiffeq import odeint


class Dynamics(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        self.scale = nn.Parameter(torch.ones(2))

    @torch.no_grad()  # <- here no-grad
    def derivative(self, y):
        return self.net(y)

    def forward(self, t, y):
        return self.scale * self.derivative(y)


times = torch.linspace(0.0, 1.0, 5)
target = torch.stack([torch.cos(times), torch.sin(times)], dim=-1)
dynamics = Dynamics()
optimizer = torch.optim.Adam(dynamics.parameters(), lr=1e-2)
for _ in range(3):
    optimizer.zero_grad()
    loss = (odeint(dynamics, target[0], times, method="rk4") - target).abs().mean()
    loss.backward()
    optimizer.step()
