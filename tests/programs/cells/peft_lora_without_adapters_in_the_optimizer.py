import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2Model

base = GPT2Model(GPT2Config(vocab_size=60, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1))
head = nn.Linear(32, 4)
model = get_peft_model(base, LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True))
optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)  # <- here not-in-optimizer
ids, labels = torch.randint(2, 60, (16, 12)), torch.randint(4, (16,))
for _ in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(head(model(ids).last_hidden_state[:, -1]), labels)
    loss.backward()
    optimizer.step()
