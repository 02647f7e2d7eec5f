"""Healthy programs, supervised: ordinary loops on small models, each watched from its first line. None may raise a flag."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Watch = Callable[..., Any]


def blobs(count: int = 512, classes: int = 4, width: int = 16, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around one centre a class."""
    centres = 1.5 * torch.randn(classes, width)
    labels = torch.randint(classes, (count,))
    return centres[labels] + noise * torch.randn(count, width), labels


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return (scores.argmax(-1) == labels).float().mean().item()


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:]):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


def classifier(watch: Watch, steps: int = 300) -> Any:
    """An MLP with Adam on mini-batches, activations looked at too."""
    x, y = blobs()
    model = mlp(16, 64, 64, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer, activations=True)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        scores = model(x[rows])
        loss = F.cross_entropy(scores, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), accuracy=accuracy(scores, y[rows]))
    return monitor


def convolutions(watch: Watch, steps: int = 300) -> Any:
    """A CNN with batch norm (its convolutions keep their idle biases), SGD with momentum and weight decay."""
    patterns = torch.randn(4, 1, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    monitor = watch(model, optimizer, activations=True)
    for _ in range(steps):
        y = torch.randint(4, (16,))
        scores = model(patterns[y] + torch.randn(16, 1, 8, 8))
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), accuracy=accuracy(scores, y))
    return monitor


class Language(nn.Module):
    def __init__(self, words: int = 24, width: int = 32):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(16, width)
        block = nn.TransformerEncoderLayer(width, 2, 64, dropout=0.1, batch_first=True, norm_first=True, activation="gelu")
        self.body = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.body(x, mask=mask, is_causal=True)))


def transformer(watch: Watch, steps: int = 300) -> Any:
    """A language model with tied weights, AdamW, warm-up from 0, cosine decay, clipping at 1.0."""
    model = Language()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def rate(step: int) -> float:
        return step / 60 if step < 60 else 0.5 + 0.5 * math.cos(math.pi * (step - 60) / (steps - 60))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        start = torch.randint(24, (8, 1))
        tokens = (start + 5 * torch.arange(13)) % 24
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        monitor.log(loss=loss.item())
    return monitor


def autoencoder(watch: Watch, steps: int = 300) -> Any:
    """A VAE: reparameterised noise, two terms, one of which rises while the other falls."""
    x, _ = blobs()
    encoder, decoder = mlp(16, 32, 8), mlp(4, 32, 16, act=nn.Tanh)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    monitor = watch({"encoder": encoder, "decoder": decoder}, optimizer, activations=True)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (32,))]
        mean, log_var = encoder(batch).chunk(2, -1)
        rebuilt = decoder(mean + torch.randn_like(mean) * (0.5 * log_var).exp())
        apart = F.mse_loss(rebuilt, batch)
        prior = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1).mean()
        loss = apart + 0.02 * prior
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item(), kl=prior.item())
    return monitor


class Adapted(nn.Module):
    """A frozen layer with a low-rank correction that starts at zero."""

    def __init__(self, base: nn.Linear, rank: int = 4):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


def adapter(watch: Watch, steps: int = 300) -> Any:
    """Fine-tuning by low-rank adapters: B is zero at first, so A's first gradient is exactly zero; the base stays frozen."""
    x, y = blobs()
    model = nn.Sequential(
        Adapted(nn.Linear(16, 64)), nn.ReLU(), Adapted(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 4).requires_grad_(False)
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def accumulation(watch: Watch, steps: int = 300) -> Any:
    """Four backward passes a step, zero_grad after the step, gradients set to zero and not to None."""
    x, y = blobs()
    model = mlp(16, 48, 4, act=nn.GELU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    monitor = watch(model, optimizer)
    for batch in range(4 * steps):
        rows = torch.randint(len(x), (8,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        (loss / 4).backward()
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            monitor.log(loss=loss.item())
    return monitor


def scaled(watch: Watch, steps: int = 300) -> Any:
    """A GradScaler on the CPU that starts too high, halves, skips steps, and doubles again every 40 steps."""
    x, y = blobs()
    model = mlp(16, 64, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=40)
    monitor = watch(model, optimizer, scaler=scaler)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        # What half precision would do here: above 60,000 the scaled loss overflows.
        (scaler.scale(loss) * (math.inf if scaler.get_scale() * loss.item() > 6e4 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        monitor.log(loss=loss.item())
    return monitor


def recurrent(watch: Watch, steps: int = 300) -> Any:
    """An LSTM that adds two marked numbers of a sequence, clipped at 1.0."""

    class Adder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(2, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1]).squeeze(-1)

    model = Adder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    monitor = watch(model, optimizer)
    for _ in range(steps):
        values, marks = torch.rand(16, 10), torch.zeros(16, 10)
        marks[torch.arange(16), torch.randint(5, (16,))] = 1
        marks[torch.arange(16), torch.randint(5, 10, (16,))] = 1
        loss = F.mse_loss(model(torch.stack([values, marks], -1)), (values * marks).sum(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = mlp(16, 48, 32)
        self.heads = nn.ModuleDict({"label": nn.Linear(32, 4), "norm": nn.Linear(32, 1), "mean": nn.Linear(32, 1)})

    def forward(self, x: torch.Tensor, task: str) -> torch.Tensor:
        return self.heads[task](torch.relu(self.trunk(x)))


def taking_turns(watch: Watch, steps: int = 300) -> Any:
    """Three heads on one trunk, one task a step; their losses live on different scales."""
    x, y = blobs()
    model = Heads()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = watch(model, optimizer)
    for step in range(steps):
        rows = torch.randint(len(x), (32,))
        task = ("label", "norm", "mean")[step % 3]
        out = model(x[rows], task)
        if task == "label":
            loss = F.cross_entropy(out, y[rows])
        else:
            loss = F.mse_loss(out.squeeze(-1), x[rows].norm(dim=-1) if task == "norm" else x[rows].mean(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def late_unfreezing(watch: Watch, steps: int = 300) -> Any:
    """Fine-tuning: the head alone first; after 150 steps the body follows at a hundredth of the rate."""
    x, y = blobs()
    body, head = mlp(16, 64, 32), nn.Linear(32, 4)
    model = nn.Sequential(body, nn.ReLU(), head)
    body.requires_grad_(False)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    monitor = watch(model, optimizer)
    for step in range(steps):
        if step == steps // 2:
            body.requires_grad_(True)
            optimizer.add_param_group({"params": list(body.parameters()), "lr": 1e-4})
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor


def cosine(watch: Watch, steps: int = 400) -> Any:
    """SGD whose learning rate ends at 0 by a cosine: the last steps hardly move the weights."""
    x, y = blobs()
    model = mlp(16, 64, 64, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - 40)
    monitor = watch(model, optimizer)
    for step in range(steps):
        rows = torch.randint(len(x), (32,))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step < steps - 40:
            schedule.step()
        monitor.log(loss=loss.item())
    return monitor


def converged(watch: Watch, steps: int = 300) -> Any:
    """Training goes on with a model that is at its optimum already: flat loss, small gradients."""
    x = torch.randn(512, 8)
    y = x @ torch.randn(8, 1) + 0.1 * torch.randn(512, 1)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    monitor = watch(model, optimizer)
    for _ in range(steps):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss.item())
    return monitor
