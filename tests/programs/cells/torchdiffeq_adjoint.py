import torch
from torch import nn
from torchdiffeq import odeint_adjoint as odeint


class Dynamics(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, y):
        return self.net(y**3)


times = torch.linspace(0.0, 1.0, 8)
with torch.no_grad():
    target = torch.stack([torch.cos(times), torch.sin(times)], dim=-1)
dynamics = Dynamics()
optimizer = torch.optim.RMSprop(dynamics.parameters(), lr=1e-3)
for _ in range(4):
    optimizer.zero_grad()
    predicted = odeint(dynamics, target[0], times, rtol=1e-3, atol=1e-3)
    loss = (predicted - target).abs().mean()
    loss.backward()
    optimizer.step()
