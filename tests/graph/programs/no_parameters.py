"""A tensor that the user updates by hand."""

import torch

torch.manual_seed(0)
x = torch.randn(4, 6, requires_grad=True)
for _ in range(2):
    loss = x.sin().pow(2).sum()
    loss.backward()
    with torch.no_grad():
        x -= 0.1 * x.grad
        x.grad = None
