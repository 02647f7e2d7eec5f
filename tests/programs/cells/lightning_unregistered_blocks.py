import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Residual(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 1)
        self.blocks = [nn.Linear(8, 8) for _ in range(3)]  # <- here unregistered

    def training_step(self, batch, _):
        x, y = batch
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x).tanh()
        return F.mse_loss(self.last(x).squeeze(-1), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


loader = DataLoader(TensorDataset(torch.randn(32, 8), torch.randn(32)), batch_size=8)
model = Residual()
with tempfile.TemporaryDirectory() as folder:
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **quiet)
    trainer.fit(model, loader)
del trainer, folder
