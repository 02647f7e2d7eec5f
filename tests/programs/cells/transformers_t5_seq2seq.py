import torch
from transformers import T5Config, T5ForConditionalGeneration

config = T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0)
model = T5ForConditionalGeneration(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
source, target = torch.randint(1, 60, (8, 10)), torch.randint(1, 60, (8, 6))
target[:, 5] = -100
for _ in range(3):
    optimizer.zero_grad()
    loss = model(input_ids=source, labels=target).loss
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    made = model.generate(source[:2], max_new_tokens=5, num_beams=2)
