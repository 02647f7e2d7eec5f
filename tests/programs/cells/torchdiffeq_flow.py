import torch
from torch import nn
from torchdiffeq import odeint


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, state):
        z = state[0]
        with torch.set_grad_enabled(True):
            z.requires_grad_(True)
            dz = self.net(torch.cat([z, t.expand(len(z), 1)], dim=1))
            trace = sum(torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2))
        return dz, -trace.unsqueeze(1)


flow = Flow()
optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
for _ in range(3):
    x = torch.randn(16, 2) * 0.5 + 1
    optimizer.zero_grad()
    z, change = odeint(flow, (x, torch.zeros(16, 1)), torch.tensor([1.0, 0.0]), method="rk4", options={"step_size": 0.25})
    loss = -(torch.distributions.Normal(0.0, 1.0).log_prob(z[-1]).sum(1) - change[-1].squeeze(1)).mean()
    loss.backward()
    optimizer.step()
