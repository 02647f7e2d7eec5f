import torch
import torch.nn.functional as F
from torch import nn


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
        self.classify, self.locate = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 4, 1)

    def forward(self, images):
        h = self.backbone(images)
        return self.classify(h).flatten(2).transpose(1, 2), self.locate(h).flatten(2).transpose(1, 2).sigmoid()


def iou(a, b):
    low, high = torch.max(a[:, None, :2], b[None, :, :2]), torch.min(a[:, None, 2:], b[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(2)
    area = lambda t: (t[:, 2:] - t[:, :2]).clamp(min=0).prod(1)  # noqa: E731
    return inside / (area(a)[:, None] + area(b)[None] - inside + 1e-6)


def corners(t):
    return torch.cat([t[:, :2] - t[:, 2:] / 2, t[:, :2] + t[:, 2:] / 2], dim=1)


model = Detector()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(4):
    images = torch.randn(2, 3, 32, 32)
    truth = torch.rand(2, 2, 4) * 0.3 + 0.3
    kinds = torch.randint(1, 3, (2, 2))
    scores, boxes = model(images)
    loss = 0.0
    for score, box, target, kind in zip(scores, boxes, truth, kinds):
        with torch.no_grad():
            overlap = iou(corners(box), corners(target))
            best, which = overlap.max(dim=1)
            best[overlap.argmax(dim=0)] = 1.0
            positive = best > 0.4
            labels = torch.where(positive, kind[which], torch.zeros_like(which))
        classification = F.cross_entropy(score, labels, reduction="none")
        hardest = classification[~positive].topk(min(3 * int(positive.sum()), int((~positive).sum())))[0]
        loss = loss + (classification[positive].sum() + hardest.sum()) / positive.sum()
        loss = loss + F.smooth_l1_loss(box[positive], target[which[positive]])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
