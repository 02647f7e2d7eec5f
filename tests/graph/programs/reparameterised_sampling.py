"""Sampling with reparameterisation."""

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
enc = nn.Linear(6, 4)
dec = nn.Linear(2, 6)
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()])
for step in range(2):
    x = torch.rand(4, 6)
    mu, lv = enc(x).chunk(2, -1)
    d = torch.distributions.Normal(mu, lv.mul(0.5).exp())
    z = d.rsample()
    kl = torch.distributions.kl_divergence(d, torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))).sum(1).mean()
    loss = F.binary_cross_entropy_with_logits(dec(z), x) + kl
    opt.zero_grad()
    loss.backward()
    opt.step()
