import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.rand(32, 8), torch.randint(3, (32,))


def pgd(x, y, steps=3):
    adversarial = (x + 0.05 * (2 * torch.rand_like(x) - 1)).clamp(0, 1).detach()
    for _ in range(steps):
        adversarial.requires_grad_()
        loss = F.cross_entropy(model(adversarial), y)
        gradient = torch.autograd.grad(loss, adversarial)[0]
        adversarial = adversarial.detach() + 0.02 * gradient.sign()
        adversarial = torch.min(torch.max(adversarial, x - 0.05), x + 0.05).clamp(0, 1)
    return adversarial


for part in torch.randperm(32).split(8):
    model.eval()
    attacked = pgd(x[part], y[part])
    model.train()
    clean, robust = model(x[part]), model(attacked)
    loss = F.cross_entropy(clean, y[part])
    loss = loss + 6 * F.kl_div(F.log_softmax(robust, dim=1), F.softmax(clean, dim=1), reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
