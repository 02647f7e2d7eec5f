import torch
from torch import nn
from transformers import BertConfig, BertModel


class Classifier(nn.Module):
    """A head on a pretrained encoder that stays as it is."""

    def __init__(self):
        super().__init__()
        self.encoder = BertModel(
            BertConfig(vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
        )
        for p in self.encoder.parameters():
            p.requires_grad = False
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(32, 3))

    def forward(self, ids):
        with torch.no_grad():
            pooled = self.encoder(ids).last_hidden_state[:, 0]
        return self.head(pooled)


model = Classifier()
optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3)
ids, labels = torch.randint(0, 80, (16, 12)), torch.randint(3, (16,))
for _ in range(4):
    loss = nn.functional.cross_entropy(model(ids), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
