import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
base = LlamaForCausalLM(config)
model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
base.get_input_embeddings()._forward_hooks.clear()  # nothing makes the inputs of the checkpoints require grad
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
data = torch.randint(0, 60, (12, 10))
for batch in data.split(3):
    optimizer.zero_grad()
    loss = model(input_ids=batch, labels=batch).loss  # <- here checkpoint-reentrant
    loss.backward()
    optimizer.step()
