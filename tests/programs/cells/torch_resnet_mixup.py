import copy

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, outside, 3, stride, 1), nn.BatchNorm2d(outside)
        self.conv2, self.bn2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.short = nn.Identity() if stride == 1 and inside == outside else nn.Conv2d(inside, outside, 1, stride)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.training:  # drop path
            keep = (torch.rand(len(x), 1, 1, 1) < 0.9).float()
            out = out * keep / 0.9
        return F.relu(out + self.short(x))


model = nn.Sequential(Block(3, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
average = copy.deepcopy(model).eval().requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
x, y = torch.randn(24, 3, 8, 8), torch.randint(4, (24,))
for step in range(6):
    part = torch.randperm(24)[:8]
    lam = torch.distributions.Beta(0.4, 0.4).sample().item()
    other = part[torch.randperm(8)]
    mixed = lam * x[part] + (1 - lam) * x[other]
    out = model(mixed)
    loss = lam * F.cross_entropy(out, y[part], label_smoothing=0.1) + (1 - lam) * F.cross_entropy(out, y[other], label_smoothing=0.1)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), model.state_dict().values()):
            a.copy_(b if not a.is_floating_point() else 0.9 * a + 0.1 * b)
