"""Training cells for three architectures, each with one of five ways to lose the gradient at a known place."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent

HERE = "# <- here"

MLP = """\
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.second = nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
@LOSE layer=second
        return self.head(F.relu(x))


batch = torch.randn(8, 12)
"""

RESNET = """\
class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1, broken=False):
        super().__init__()
        self.broken = broken
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = F.relu(y + self.shortcut(x))
        if self.broken:
@LOSE layer=conv2 indent=12
        return x


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16, broken=True))
        self.layer3 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32))
        self.layer4 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.head(x.mean((2, 3)))


batch = torch.randn(8, 3, 16, 16)
"""

GPT2 = """\
class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = [p.view(b, t, self.heads, c // self.heads).transpose(1, 2) for p in self.c_attn(x).split(c, 2)]
        scores = q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
        return self.c_proj((F.softmax(scores, -1) @ v).transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, width, heads, broken):
        super().__init__()
        self.broken = broken
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        if self.broken:
@LOSE layer=ln_2 indent=12
        return x


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(32, 24), nn.Embedding(16, 24)
        self.h = nn.ModuleList([Block(24, 4, number == 5) for number in range(12)])
        self.ln_f = nn.LayerNorm(24)
        self.lm_head = nn.Linear(24, 10, bias=False)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))[:, -1]


batch = torch.randint(32, (8, 16))
"""

WAYS = {
    "detach": "x = x.detach()  # <- here",
    "no_grad": "with torch.no_grad():  # <- here\n    x = self.LAYER(x)",
    "numpy": "x = torch.from_numpy(np.tanh(x.detach().numpy()))  # <- here",
    "list": "x = torch.tensor(x.tolist())  # <- here",
    "argmax": "x = F.one_hot(x.argmax(-1), x.shape[-1]).float()  # <- here",
}
# Way -> the operation that is marked; {layer} is the layer that runs under no_grad.
LOST_AT = {"detach": "detach", "numpy": "numpy", "list": "tolist", "argmax": "argmax"}

TRAIN = """\
model = Model()
targets = torch.randint(10, (8,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(2):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch), targets)
    loss.backward()
    optimizer.step()
"""

HEAD = """\
%%gradcheck
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


"""


@dataclass(frozen=True)
class Setting:
    """A broken cell, and what the picture has to say about it."""

    cell: str
    line: int
    operation: str
    module: str


def setting(model: str, way: str) -> Setting:
    """The cell of one model with one way to lose the gradient."""
    source, module, under = {
        "mlp": (MLP, "model", ("linear", "model.second")),
        "resnet": (RESNET, "model.layer2.1", ("conv2d", "model.layer2.1.conv2")),
        "gpt2": (GPT2, "model.h.5", ("layer_norm", "model.h.5.ln_2")),
    }[model]
    before, _, rest = source.partition("@LOSE ")
    options, _, after = rest.partition("\n")
    given = dict(part.split("=") for part in options.split())
    lost = indent(WAYS[way].replace("LAYER", given["layer"]), " " * int(given.get("indent", 8)))
    cell = HEAD + before + lost + "\n" + after + TRAIN
    line = next(number for number, text in enumerate(cell.split("\n"), 1) if HERE in text)
    operation, where = under if way == "no_grad" else (LOST_AT[way], module)
    return Setting(cell, line, operation, where)
