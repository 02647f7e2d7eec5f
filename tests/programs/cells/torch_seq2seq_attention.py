import random

import torch
import torch.nn.functional as F
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(20, 16, padding_idx=0), nn.GRU(16, 32, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(64, 32)

    def forward(self, source):
        out, hidden = self.gru(self.embedding(source))
        return out, torch.tanh(self.bridge(torch.cat([hidden[0], hidden[1]], dim=1)))[None]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(20, 16, padding_idx=0), nn.GRU(16 + 64, 32, batch_first=True)
        self.score, self.v, self.out = nn.Linear(64 + 32, 32), nn.Linear(32, 1, bias=False), nn.Linear(32, 20)

    def forward(self, token, hidden, memory, mask):
        wide = hidden.transpose(0, 1).expand(-1, memory.size(1), -1)
        energy = self.v(torch.tanh(self.score(torch.cat([memory, wide], dim=2)))).squeeze(2)
        weights = energy.masked_fill(~mask, -1e9).softmax(dim=1)
        context = weights[:, None] @ memory
        out, hidden = self.gru(torch.cat([self.embedding(token)[:, None], context], dim=2), hidden)
        return self.out(out.squeeze(1)), hidden


encoder, decoder = Encoder(), Decoder()
parameters = list(encoder.parameters()) + list(decoder.parameters())
optimizer = torch.optim.Adam(parameters, lr=1e-3)
for step in range(4):
    source = torch.randint(1, 20, (8, 7))
    source[:, 5:] = 0
    target = source[:, :5].flip(1)
    memory, hidden = encoder(source)
    token, loss = torch.ones(8, dtype=torch.long), 0
    for t in range(5):
        logits, hidden = decoder(token, hidden, memory, source != 0)
        loss += F.cross_entropy(logits, target[:, t], ignore_index=0)
        token = target[:, t] if random.random() < 0.5 else logits.argmax(1)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    shown = loss.item() / 5
