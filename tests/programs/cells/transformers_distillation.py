import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForMaskedLM

size = dict(vocab_size=60, num_attention_heads=2, intermediate_size=64)
teacher = BertForMaskedLM(BertConfig(hidden_size=48, num_hidden_layers=3, **size)).eval()
student = BertForMaskedLM(BertConfig(hidden_size=32, num_hidden_layers=1, **size))
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
ids = torch.randint(0, 60, (8, 10))
temperature = 2.0
for _ in range(4):
    with torch.no_grad():
        soft = F.softmax(teacher(ids).logits / temperature, dim=-1)
    logits = student(ids).logits
    loss = F.kl_div(F.log_softmax(logits / temperature, dim=-1), soft, reduction="batchmean") * temperature**2
    loss = loss + F.cross_entropy(logits.view(-1, 60), ids.view(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
