import higher
import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
meta = torch.optim.Adam(model.parameters(), lr=1e-2)
inner = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(4, 20, 4), torch.randint(2, (4, 20))
for _ in range(3):
    meta.zero_grad()
    for task in range(4):
        with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, differentiable):
            for _ in range(2):
                differentiable.step(F.cross_entropy(fast(x[task, :10]), y[task, :10]))
            F.cross_entropy(fast(x[task, 10:]), y[task, 10:]).backward()
    meta.step()
