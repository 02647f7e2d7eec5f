import torch
from transformers import BertConfig, BertForSequenceClassification

config = BertConfig(vocab_size=80, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3)
model = BertForSequenceClassification(config)
no_decay = ["bias", "LayerNorm.weight"]
groups = [
    {"params": [p for n, p in model.named_parameters() if not any(x in n for x in no_decay)], "weight_decay": 0.01},
    {"params": [p for n, p in model.named_parameters() if any(x in n for x in no_decay)], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
ids, mask = torch.randint(0, 80, (16, 12)), torch.ones(16, 12, dtype=torch.long)
mask[:, 9:] = 0
labels = torch.randint(3, (16,))
correct = 0
for start in range(0, 16, 4):
    part = slice(start, start + 4)
    out = model(input_ids=ids[part], attention_mask=mask[part], labels=labels[part])
    out.loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    correct += (out.logits.argmax(-1) == labels[part]).sum().item()
