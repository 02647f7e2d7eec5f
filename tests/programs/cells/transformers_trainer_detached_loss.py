import tempfile

import torch
from torch import nn
from transformers import GPT2Config, GPT2Model, PreTrainedModel, Trainer, TrainingArguments


class Regressor(PreTrainedModel):
    config_class = GPT2Config

    def __init__(self, config):
        super().__init__(config)
        self.body, self.head = GPT2Model(config), nn.Linear(config.n_embd, 1)
        self.post_init()

    def forward(self, input_ids, labels=None):
        hidden = self.body(input_ids).last_hidden_state[:, -1]
        predicted = self.head(hidden.detach()).squeeze(-1)  # <- here detach
        return {"loss": nn.functional.mse_loss(predicted, labels), "logits": predicted}


class Rows(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return {"input_ids": self.data[i], "labels": self.data[i].float().mean()}


model = Regressor(GPT2Config(vocab_size=60, n_positions=32, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1))
rows = Rows(torch.randint(2, 60, (16, 8)))
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=4, max_steps=4, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    del trainer, arguments
del folder
