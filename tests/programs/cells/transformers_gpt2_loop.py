import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

config = GPT2Config(vocab_size=60, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
model = GPT2LMHeadModel(config)
data = torch.randint(2, 60, (24, 16))
loader = DataLoader(data, batch_size=4, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
schedule = get_linear_schedule_with_warmup(optimizer, 2, 6)
losses = []
for epoch in range(1):
    model.train()
    for batch in loader:
        out = model(input_ids=batch, labels=batch)
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(out.loss.item())
model.eval()
text = model.generate(data[:1, :4], max_new_tokens=6, do_sample=True, pad_token_id=0)
