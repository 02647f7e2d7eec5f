import torch
from torch import nn


class Score(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(8) * 4)
        self.net = nn.Sequential(nn.Linear(2 + 16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        angle = t[:, None] * self.frequencies
        return self.net(torch.cat([x, angle.sin(), angle.cos()], dim=1))


model = Score()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
betas = torch.linspace(1e-4, 0.2, 20)
alphas = torch.cumprod(1 - betas, dim=0)
for step in range(5):
    x0 = torch.randn(64, 2) * 0.3 + 1
    t = torch.randint(0, 20, (64,))
    noise = torch.randn_like(x0)
    a = alphas[t][:, None]
    xt = a.sqrt() * x0 + (1 - a).sqrt() * noise
    loss = ((model(xt, t.float() / 20) - noise) ** 2).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    x = torch.randn(8, 2)
    for i in reversed(range(20)):
        guess = model(x, torch.full((8,), i / 20))
        x = (x - betas[i] / (1 - alphas[i]).sqrt() * guess) / (1 - betas[i]).sqrt()
