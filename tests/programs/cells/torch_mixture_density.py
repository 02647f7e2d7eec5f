import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

net = nn.Sequential(nn.Linear(1, 32), nn.Tanh())
pi, mu, sigma = nn.Linear(32, 5), nn.Linear(32, 5), nn.Linear(32, 5)
model = nn.ModuleList([net, pi, mu, sigma])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
y = torch.rand(64, 1) * 20 - 10
x = torch.sin(0.75 * y) * 7 + y * 0.5 + torch.randn(64, 1)
for epoch in range(5):
    h = net(x)
    mixture = MixtureSameFamily(Categorical(logits=pi(h)), Normal(mu(h), nn.functional.softplus(sigma(h)) + 1e-3))
    loss = -mixture.log_prob(y.squeeze(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    sample = mixture.sample()
