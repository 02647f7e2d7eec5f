import torch
from sentence_transformers.losses import CosineSimilarityLoss
from torch import nn
from transformers import BertConfig, BertModel


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel(
            BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48),
            add_pooling_layer=False,
        )

    def forward(self, features):
        hidden = self.bert(**features).last_hidden_state
        mask = features["attention_mask"].unsqueeze(-1).float()
        return {"sentence_embedding": (hidden * mask).sum(1) / mask.sum(1)}


model = Encoder()
criterion = CosineSimilarityLoss(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(3):
    pair = [{"input_ids": torch.randint(0, 60, (6, 8)), "attention_mask": torch.ones(6, 8, dtype=torch.long)} for _ in range(2)]
    optimizer.zero_grad()
    loss = criterion(pair, torch.rand(6))
    loss.backward()
    optimizer.step()
