import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

base = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=48, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1))
model = get_peft_model(base, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
data = torch.randint(2, 60, (12, 10))
for batch in data.split(4):
    optimizer.zero_grad()
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
