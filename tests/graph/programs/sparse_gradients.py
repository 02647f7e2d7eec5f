"""Sparse gradients, two optimizers."""

import torch
from torch import nn

torch.manual_seed(0)
emb = nn.Embedding(20, 6, sparse=True)
lin = nn.Linear(6, 2)
o1 = torch.optim.SparseAdam(emb.parameters())
o2 = torch.optim.Adam(lin.parameters())
i = torch.randint(0, 20, (5,))
A = torch.eye(5).to_sparse()
for _ in range(2):
    loss = lin(torch.sparse.mm(A, emb(i))).pow(2).mean()
    o1.zero_grad()
    o2.zero_grad()
    loss.backward()
    o1.step()
    o2.step()
