import torch
import torch.nn.functional as F
from torch import nn


class Quantizer(nn.Module):
    def __init__(self, codes, size):
        super().__init__()
        self.codebook = nn.Embedding(codes, size)
        self.codebook.weight.data.uniform_(-1 / codes, 1 / codes)

    def forward(self, z):
        distance = z.pow(2).sum(1, keepdim=True) - 2 * z @ self.codebook.weight.t() + self.codebook.weight.pow(2).sum(1)
        index = distance.argmin(dim=1)
        quantized = self.codebook(index)
        loss = F.mse_loss(quantized, z.detach()) + 0.25 * F.mse_loss(z, quantized.detach())
        quantized = z + (quantized - z).detach()
        usage = F.one_hot(index, self.codebook.num_embeddings).float().mean(0)
        perplexity = torch.exp(-(usage * (usage + 1e-10).log()).sum())
        return quantized, loss, perplexity


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
        self.quantizer = Quantizer(16, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 12))

    def forward(self, x):
        quantized, loss, perplexity = self.quantizer(self.encoder(x))
        return self.decoder(quantized), loss, perplexity


model = VQVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
data = torch.randn(64, 12)
history = []
for batch in data.split(16):
    reconstruction, vq_loss, perplexity = model(batch)
    loss = F.mse_loss(reconstruction, batch) + vq_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append((loss.item(), perplexity.item()))
