import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=True)
model = nn.ModuleDict({"encoder": nn.Linear(6, 16), "head": nn.Linear(16, 2)})
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = DataLoader(TensorDataset(torch.randn(40, 6), torch.randint(2, (40,))), batch_size=8)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)


def encode(x):
    with torch.inference_mode():  # <- here no-grad
        return model["encoder"](x).relu()


for x, y in loader:
    optimizer.zero_grad()
    loss = F.cross_entropy(model["head"](encode(x).clone()), y)
    accelerator.backward(loss)
    optimizer.step()
del accelerator
