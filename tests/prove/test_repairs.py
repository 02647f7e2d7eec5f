"""Ways in which a gradient is lost, and found again when the line is repaired: one program each."""

from __future__ import annotations

import pytest

HEAD = """\
import copy, math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
first, second = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
x, y, ones = torch.randn(8, 3), torch.randn(8, 1), torch.ones(8, 4)
table = torch.randn(50, 4)
"""
TAIL = """\
for _ in range(3):
    loss = (compute() - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LOST = {
    "item, then math": ("item", "s = math.exp(first(x).mean().item())  # fault", "second(ones) * s"),
    "float": ("item", "s = float(first(x).pow(2).mean())  # fault", "second(ones) * s"),
    "items in a sum": ("item", "s = sum([row.sum().item() for row in first(x)])  # fault", "second(ones) * s"),
    "floats in a new tensor": ("item", "v = [float(row.sum()) for row in first(x)]  # fault", "second(ones) * torch.tensor(v)[:, None]"),
    "floats in an old constructor": (
        "item",
        "v = [row.sum().item() for row in first(x)]  # fault",
        "second(torch.FloatTensor([v[:4]] * 8))",
    ),
    "items in a NumPy mean": ("item", "v = [row.sum().item() for row in first(x)]  # fault", "second(ones) * float(np.mean(v))"),
    "a list in a NumPy array": ("item", "v = np.array(first(x).tolist())  # fault", "second(torch.tensor(v, dtype=torch.float32))"),
    "NumPy arithmetic": (
        "numpy",
        "v = first(x).detach().cpu().numpy()  # fault",
        "second(torch.as_tensor((v - v.mean(0)) / (v.std(0) + 1e-5), dtype=torch.float32))",
    ),
    "a stack of arrays": ("numpy", "v = np.stack([row.detach().numpy() for row in first(x)])  # fault", "second(torch.from_numpy(v))"),
    "a Fourier transform": (
        "numpy",
        "v = np.abs(np.fft.rfft(first(x).detach().numpy()))  # fault",
        "second(ones) * torch.from_numpy(v)[:, :1]",
    ),
    "a tensor of a tensor": ("rewrap", "h = torch.tensor(first(x))  # fault", "second(h)"),
    "a tensor of tensors": ("rewrap", "h = torch.tensor([part.mean() for part in first(x).unbind(1)])  # fault", "second(h)"),
    "new_tensor": ("rewrap", "h = x.new_tensor(first(x))  # fault", "second(h)"),
    "Variable": ("data", "h = torch.autograd.Variable(first(x).data, requires_grad=True)  # fault", "second(h)"),
    "Parameter": ("reparameter", "h = nn.Parameter(first(x))  # fault", "second(h)"),
    "deepcopy": ("reparameter", "twin = copy.deepcopy(first)  # fault", "second(twin(x))"),
    "a detached leaf": ("detach", "h = first(x).detach().requires_grad_()  # fault", "second(h)"),
    "a switch in the middle": (
        "no-grad",
        "torch.set_grad_enabled(False)  # fault\n    h = first(x)\n    torch.set_grad_enabled(True)",
        "second(h)",
    ),
    "a region": ("no-grad", "with torch.no_grad():  # fault\n        h = first(x)", "second(h)"),
    "a comparison": ("nondifferentiable", "h = (first(x) > 0).float()  # fault", "second(h)"),
    "argmax, one hot": ("nondifferentiable", "h = F.one_hot(first(x).argmax(1), 4).float()  # fault", "second(h)"),
    "the places of the largest": ("nondifferentiable", "i = first(x).topk(2).indices.float()  # fault", "second(torch.cat([i, i], 1))"),
    "a sample": ("nondifferentiable", "h = torch.distributions.Normal(first(x), 1.0).sample()  # fault", "second(h)"),
    "a cast": ("integer-cast", "h = first(x).mul(10).long().float()  # fault", "second(h)"),
    "a cast to an index": ("integer-cast", "i = (first(x).mean(1).sigmoid() * 49).long()  # fault", "second(F.embedding(i, table))"),
}


@pytest.mark.parametrize("name", LOST)
def test_the_line_that_loses_the_gradient_is_proven(program, name: str) -> None:  # type: ignore[no-untyped-def]
    cause, line, result = LOST[name]
    code = program(f"{HEAD}def compute():\n    {line}\n    return {result}\n{TAIL}")
    (proof,) = code.prove(code.claim(cause, "fault", ("first.weight", "first.bias")))
    assert proof.proven is True, proof.text


DECORATORS = ["@torch.no_grad()", "@torch.inference_mode()", "@torch.set_grad_enabled(False)", "@torch.no_grad"]


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_decorator_that_switches_gradients_off_is_proven_at_its_own_line(program, decorator: str) -> None:  # type: ignore[no-untyped-def]
    body = "def encode(x):\n    return first(x)\ndef compute():\n    return second(encode(x))\n"
    raised = None
    if "inference" in decorator:  # such a tensor cannot be saved for backward, and the cell raises
        raised = "RuntimeError"
    code = program(f"{HEAD}@torch.enable_grad()\n{decorator}  # fault\n{body}{TAIL}")
    (proof,) = code.prove(code.claim("no-grad", "fault", ("first.weight", "first.bias")), raised=raised)
    assert proof.proven is True, proof.text
