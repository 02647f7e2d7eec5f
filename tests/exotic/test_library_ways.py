"""What libraries do with torch, reduced to plain programs: each of these once raised a false alarm or hid a fault."""

from __future__ import annotations

import textwrap

import pytest

from tests.twice import assert_healthy, twice

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
"""

# Code whose file is not the user's: what a library's frames look like to the check.
LIBRARY = """
import torch

class Delta:
    def __init__(self, value, density):
        self.value, self.density = value, density

    def log_prob(self, x):
        return ((x == self.value).to(x.dtype).log() + self.density).sum()

def fit(model, optimizer, training_step, batches):
    for batch in batches:
        def closure():
            optimizer.zero_grad()
            loss = training_step(batch) / 1
            loss.backward()
            return loss
        optimizer.step(closure)

def elbo(model, guide, x):
    sample = guide(x)
    log_p = -(model(sample) - x).pow(2).sum() + Delta(sample, torch.zeros(())).log_prob(sample)
    return -log_p
"""
BEFORE = f"exec(compile({LIBRARY!r}, '<library>', 'exec'))"

HEALTHY = {
    "the bias of an attention's keys": """
        q, k, v, out = (nn.Linear(8, 8) for _ in range(4))
        opt = torch.optim.Adam([p for m in (q, k, v, out) for p in m.parameters()], lr=1e-3)
        x = torch.randn(4, 5, 8)
        for _ in range(4):
            opt.zero_grad()
            weights = (q(x) @ k(x).transpose(1, 2) / 8**0.5).softmax(-1)
            out(weights @ v(x)).pow(2).mean().backward()
            opt.step()
        """,
    "the bias of a convolution before a normalisation": """
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
        opt = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(4):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.randint(2, (8,))).backward()
            opt.step()
        """,
    "class 0 of a classifier whose embedding pads with 0": """
        embedding, head = nn.Embedding(80, 16, padding_idx=0), nn.Linear(16, 3)
        opt = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=1e-3)
        words, labels = torch.randint(1, 80, (32, 6)), torch.tensor([0] * 20 + [1] * 6 + [2] * 6)
        for _ in range(4):
            opt.zero_grad()
            F.cross_entropy(head(embedding(words).mean(1)), labels).backward()
            opt.step()
        """,
    "a term that a library makes, cuts and adds by itself": """
        guide, model = nn.Linear(3, 3), nn.Linear(3, 3)
        opt = torch.optim.Adam([*guide.parameters(), *model.parameters()], lr=1e-3)
        for _ in range(3):
            opt.zero_grad()
            loss = elbo(model, guide, torch.randn(8, 3))
            loss.backward()
            opt.step()
        """,
    "a library that gives the optimizer a closure": """
        model = nn.Linear(4, 2)
        opt = torch.optim.Adam(model.parameters(), lr=1e-2)
        fit(model, opt, lambda batch: model(batch).pow(2).mean(), torch.randn(24, 4).split(8))
        """,
    "an object that holds a weak proxy of its owner": """
        import weakref
        class Trainer:
            pass
        trainer = Trainer()
        model = nn.Linear(4, 2)
        trainer.model = model
        model.trainer = weakref.proxy(trainer)
        proxy = weakref.proxy(model)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            opt.step()
        """,
    "parameters that broadcast_tensors hands back": """
        loc, scale = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
        opt = torch.optim.SGD([loc, scale], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            a, b = torch.broadcast_tensors(loc, scale)
            ((torch.randn(8, 3) * b + a) - 1).pow(2).mean().backward()
            opt.step()
        """,
    "weights that are looked at under no_grad by calls that hand them back": """
        first, second = nn.Linear(4, 4), nn.Linear(4, 2)
        opt = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
        sizes = []
        for _ in range(3):
            opt.zero_grad()
            with torch.no_grad():
                for p in (*first.parameters(), *second.parameters()):
                    sizes.append(p.float().contiguous().to("cpu").norm().item())
            penalty = sum(p.pow(2).sum() for p in first.parameters())
            (second(first(torch.randn(8, 4))).pow(2).mean() + 0.01 * penalty).backward()
            opt.step()
        """,
}

BROKEN = {
    "blocks in a list of a module that is never called itself": (
        "unregistered",
        """
        class Task(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 1)
                self.blocks = [nn.Linear(8, 8) for _ in range(3)]  # <- here
            def training_step(self, x):
                x = self.first(x)
                for block in self.blocks:
                    x = x + block(x).tanh()
                return self.last(x).pow(2).mean()
        task = Task()
        opt = torch.optim.Adam(task.parameters(), lr=1e-3)
        fit(task, opt, task.training_step, torch.randn(24, 8).split(8))
        """,
    ),
    "reentrant checkpoints over a frozen base with adapters": (
        "checkpoint-reentrant",
        """
        from torch.utils.checkpoint import checkpoint
        class Adapted(nn.Module):
            def __init__(self):
                super().__init__()
                self.base, self.down, self.up = nn.Linear(8, 8), nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)
                self.base.requires_grad_(False)
            def forward(self, x):
                return self.base(x) + self.up(self.down(x))
        layers = nn.ModuleList(Adapted() for _ in range(2))
        opt = torch.optim.Adam([p for p in layers.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(2):
            opt.zero_grad()
            x = torch.randn(4, 8)
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=True)  # <- here
            x.pow(2).mean().backward()
            opt.step()
        """,
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_the_ways_of_libraries_are_the_same_and_silent(name: str) -> None:
    assert_healthy(HEAD + textwrap.dedent(HEALTHY[name]), name, before=BEFORE)


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_in_the_way_of_a_library_is_named(name: str) -> None:
    cause, source = BROKEN[name]
    found = twice(HEAD + textwrap.dedent(source), name, before=BEFORE)
    assert not found.different
    first = found.report.findings[0] if found.report.findings else None
    assert first is not None, repr(found.report)
    assert (first.cause, first.location.line if first.location else None) == (cause, found.line()), repr(found.report)
