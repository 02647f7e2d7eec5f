"""Plain tensors as parameters."""

import torch

torch.manual_seed(0)
ws = [torch.randn(6, 6, requires_grad=True) for _ in range(3)]
opt = torch.optim.SGD(ws, lr=0.1)
for step in range(2):
    x = torch.randn(4, 6)
    for w in ws:
        x = (x @ w).tanh()
    loss = x.mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
