"""Packed sequences."""

import torch
from torch import nn

torch.manual_seed(0)
rnn = nn.LSTM(6, 4, bidirectional=True)
head = nn.Linear(8, 2)
opt = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.1)
for step in range(2):
    x = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 6), [5, 3, 2])
    y, (h, c) = rnn(x)
    y, _ = nn.utils.rnn.pad_packed_sequence(y)
    loss = head(torch.cat([h[-1], h[-2]], 1)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
