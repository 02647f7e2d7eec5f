import torch
import torch.nn.functional as F
from torch import nn

vgg = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).eval()
for p in vgg.parameters():
    p.requires_grad_(False)
content, style = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)


def gram(x):
    flat = x.flatten(2).squeeze(0)
    return flat @ flat.t() / flat.numel()


with torch.no_grad():
    content_target, style_target = vgg(content), gram(vgg[:2](style))
image = content.clone().requires_grad_(True)
optimizer = torch.optim.LBFGS([image], max_iter=4)
runs = [0]
while runs[0] < 8:

    def closure():
        with torch.no_grad():
            image.clamp_(0, 1)
        optimizer.zero_grad()
        loss = F.mse_loss(vgg(image), content_target) + 1e3 * F.mse_loss(gram(vgg[:2](image)), style_target)
        loss.backward()
        runs[0] += 1
        return loss

    optimizer.step(closure)
