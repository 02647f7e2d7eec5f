import torch
import torch.nn.functional as F
from torch import nn


class SkipGram(nn.Module):
    def __init__(self, words, size):
        super().__init__()
        self.inside, self.outside = nn.Embedding(words, size), nn.Embedding(words, size)
        nn.init.zeros_(self.outside.weight)

    def forward(self, centre, context, negative):
        v = self.inside(centre)
        positive = F.logsigmoid((v * self.outside(context)).sum(1))
        others = F.logsigmoid(-(self.outside(negative) @ v[:, :, None]).squeeze(2)).sum(1)
        return -(positive + others).mean()


model = SkipGram(200, 16)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
for step in range(5):
    loss = model(torch.randint(200, (32,)), torch.randint(200, (32,)), torch.randint(200, (32, 5)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
