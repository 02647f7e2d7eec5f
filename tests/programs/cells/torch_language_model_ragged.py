import math

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(size, 3 * size), nn.Linear(size, size), heads

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1 if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class Layer(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(size), Attention(size, heads), nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size), nn.Dropout(0.1))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, words=40, size=32, context=16):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(words, size), nn.Embedding(context, size)
        self.layers = nn.ModuleList(Layer(size, 4) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, words, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids, targets=None):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        if targets is None:
            return logits[:, -1], None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


model = GPT()
decay = [p for p in model.parameters() if p.dim() >= 2]
plain = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-3)
data = torch.randint(0, 40, (500,))
for step in range(6):
    rate = 1e-3 * min(1.0, (step + 1) / 3) * 0.5 * (1 + math.cos(math.pi * step / 6))
    for group in optimizer.param_groups:
        group["lr"] = rate
    for micro in range(2):
        start = torch.randint(480, (4,))
        ids = torch.stack([data[s : s + 12] for s in start])
        targets = torch.stack([data[s + 1 : s + 13] for s in start])
        targets[:, 10:] = -1
        logits, loss = model(ids, targets)
        (loss / 2).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
model.eval()
with torch.no_grad():
    text = data[:4][None]
    for _ in range(5):
        text = torch.cat([text, torch.multinomial(model(text)[0].softmax(1), 1)], dim=1)
