import torch
import torch.nn.functional as F
import torchmetrics
from torch import nn

model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scores = torchmetrics.MetricCollection(
    [
        torchmetrics.classification.MulticlassAccuracy(num_classes=3),
        torchmetrics.classification.MulticlassF1Score(num_classes=3),
        torchmetrics.classification.MulticlassAUROC(num_classes=3),
    ]
)
mean_loss = torchmetrics.MeanMetric()
x, y = torch.randn(48, 6), torch.randint(3, (48,))
for part in torch.randperm(48).split(12):
    logits = model(x[part])
    loss = F.cross_entropy(logits, y[part])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scores.update(logits, y[part])
    mean_loss.update(loss)
values = {k: float(v) for k, v in scores.compute().items()}
average = float(mean_loss.compute())
