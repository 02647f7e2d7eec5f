import torch
import torch.nn.functional as F
from torch import nn

encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3 * 4))
decoder = nn.Sequential(nn.Linear(3 * 4, 32), nn.ReLU(), nn.Linear(32, 12))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
data = (torch.rand(64, 12) > 0.5).float()
temperature = 1.0
for step, batch in enumerate(data.split(16)):
    logits = encoder(batch).view(-1, 3, 4)
    z = F.gumbel_softmax(logits, tau=temperature, hard=step % 2 == 1)
    out = decoder(z.flatten(1))
    q = logits.softmax(-1)
    kl = (q * (q.clamp_min(1e-9).log() + torch.tensor(4.0).log())).sum((1, 2)).mean()
    loss = F.binary_cross_entropy_with_logits(out, batch, reduction="sum") / len(batch) + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    temperature = max(0.5, temperature * 0.9)
