import torch
from torch import nn


class CRF(nn.Module):
    def __init__(self, tags):
        super().__init__()
        self.transitions = nn.Parameter(torch.randn(tags, tags) * 0.1)
        self.start, self.end = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))

    def forward(self, emissions, tags, mask):
        score = self.start[tags[:, 0]] + emissions[:, 0].gather(1, tags[:, :1]).squeeze(1)
        alpha = self.start + emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            step = self.transitions[tags[:, t - 1], tags[:, t]] + emissions[:, t].gather(1, tags[:, t : t + 1]).squeeze(1)
            score = score + step * mask[:, t]
            following = torch.logsumexp(alpha[:, :, None] + self.transitions + emissions[:, t][:, None], dim=1)
            alpha = torch.where(mask[:, t].bool()[:, None], following, alpha)
        last = tags.gather(1, (mask.sum(1).long() - 1)[:, None]).squeeze(1)
        return (torch.logsumexp(alpha + self.end, dim=1) - score - self.end[last]).mean()

    @torch.no_grad()
    def decode(self, emissions):
        best, back = self.start + emissions[:, 0], []
        for t in range(1, emissions.shape[1]):
            best, index = (best[:, :, None] + self.transitions + emissions[:, t][:, None]).max(dim=1)
            back.append(index)
        path = [(best + self.end).argmax(1)]
        for index in reversed(back):
            path.append(index.gather(1, path[-1][:, None]).squeeze(1))
        return torch.stack(path[::-1], dim=1)


embedding, lstm, out, crf = nn.Embedding(50, 16), nn.LSTM(16, 16, bidirectional=True, batch_first=True), nn.Linear(32, 4), CRF(4)
model = nn.ModuleList([embedding, lstm, out, crf])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(4):
    words, tags = torch.randint(50, (6, 8)), torch.randint(4, (6, 8))
    mask = (torch.arange(8) < torch.tensor([8, 8, 6, 5, 4, 3])[:, None]).float()
    emissions = out(lstm(embedding(words))[0])
    loss = crf(emissions, tags, mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    accuracy = ((crf.decode(emissions) == tags) * mask).sum() / mask.sum()
