"""The loss is a leaf."""

import torch

torch.manual_seed(0)
w = torch.tensor(2.0, requires_grad=True)
w.backward()
