"""What is never proven: a line that does something similar and is not at fault. The line at fault in the same program is proven."""

from __future__ import annotations

from dataclasses import replace

import pytest

HEAD = """\
import numpy as np
import torch
from torch import nn
torch.manual_seed(0)
first, second = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
x, y = torch.randn(8, 3), torch.randn(8, 1)
history = []
for _ in range(3):
    optimizer.zero_grad()
"""
TAIL = "    loss.backward()\n    optimizer.step()\n"
FIRST = ("first.weight", "first.bias")
ALL = (*FIRST, "second.weight", "second.bias")

PROGRAMS = {
    "a number for the log": (
        "    hidden = first(x)\n"
        "    history.append(hidden.norm().item())  # innocent\n"
        "    loss = (second(torch.tensor(hidden.tolist())) - y).pow(2).mean()  # fault\n",
        ("item", FIRST),
        ("item", FIRST),
    ),
    "a detached target": (
        "    hidden = first(x).detach()  # fault\n"
        "    aim = torch.tanh(first(x)).mean(1, keepdim=True).mul(0).add(y).detach()  # innocent\n"
        "    loss = (second(hidden) - aim).pow(2).mean()\n",
        ("detach", FIRST),
        ("no-grad", FIRST),
    ),
    "a number that scales what is cut later": (
        "    hidden = first(x)\n"
        "    hidden = hidden / hidden.detach().norm().sqrt().item() if history else hidden / (1 + 0 * hidden.mean()).item()  # innocent\n"
        "    total = [row.sum().item() for row in hidden]  # fault\n"
        "    loss = (second(torch.tensor(total).reshape(8, 1).expand(8, 4)) - y).pow(2).mean()\n",
        ("item", FIRST),
        ("item", FIRST),
    ),
    "a region that only measures": (
        "    with torch.no_grad():  # fault\n"
        "        hidden = first(x)\n"
        "    with torch.no_grad():  # innocent\n"
        "        history.append((second(first(x)) - y).abs().mean())\n"
        "    loss = (second(hidden) - y).pow(2).mean()\n",
        ("no-grad", FIRST),
        ("no-grad", FIRST),
    ),
    "a line that does something else": (
        "    hidden = first(x).detach()  # fault\n    loss = (second(hidden.relu()) - y).pow(2).mean()  # innocent\n",
        ("detach", FIRST),
        ("detach", FIRST),
    ),
    "the right line for the wrong reason": (
        "    hidden = first(x).detach()  # fault innocent\n    loss = (second(hidden) - y).pow(2).mean()\n",
        ("detach", FIRST),
        ("numpy", FIRST),
    ),
    "a comparison that only counts": (
        "    score = second(first(x))\n"
        "    history.append((score > 0).float().mean())  # innocent\n"
        "    loss = (score.round() - y).pow(2).mean() if _ > 5 else (score.sign() - y).pow(2).mean()  # fault\n",
        ("nondifferentiable", ALL),
        ("nondifferentiable", ALL),
    ),
    "a copy of a part that is never cut": (
        "    values = second(first(x)).detach().numpy()  # fault\n"
        "    history.append(np.abs(first(x).detach().numpy()).mean())  # innocent\n"
        "    loss = torch.from_numpy(np.square(values - y.numpy())).mean().requires_grad_()\n",
        ("numpy", ALL),
        ("numpy", ALL),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_the_line_at_fault_is_proven(program, name: str) -> None:  # type: ignore[no-untyped-def]
    body, fault, innocent = PROGRAMS[name]
    code = program(HEAD + body + TAIL)
    mark = "fault" if "# fault innocent" not in body else "fault innocent"
    right, wrong = code.prove(
        code.claim(fault[0], mark, fault[1]), code.claim(innocent[0], mark if "inn" in mark else "innocent", innocent[1])
    )
    assert right.proven is True, right.text
    assert wrong.proven is not True and wrong.text.startswith("not proven: "), wrong.text


WIRED = {
    "frozen": (
        "import torch\nfrom torch import nn\n"
        "one, other = nn.Linear(3, 4), nn.Linear(4, 1)\n"
        "one.requires_grad_(False)  # fault\n"
        "judge = nn.Linear(4, 1).requires_grad_(False)  # innocent\n"
        "optimizer = torch.optim.SGD([*one.parameters(), *other.parameters()], lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    hidden = one(torch.randn(8, 3))\n"
        "    (other(hidden) + judge(hidden)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        ("one.weight", "one.bias"),
    ),
    "unregistered": (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.seen = [nn.Linear(3, 3)]  # innocent\n"
        "        self.layers = [nn.Linear(3, 3), nn.Linear(3, 3)]  # fault\n"
        "        self.out = nn.Linear(3, 1)\n"
        "    def forward(self, x):\n"
        "        for layer in self.layers:\n"
        "            x = layer(x)\n"
        "        return self.out(x)\n"
        "net = Net()\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    net(torch.randn(8, 3)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        ("layers[0].weight", "layers[0].bias", "layers[1].weight", "layers[1].bias"),
    ),
    "not-in-optimizer": (
        "import torch\nfrom torch import nn\n"
        "net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))  # innocent\n"
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        "net[1] = nn.Linear(4, 1)  # fault\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    net(torch.randn(8, 3)).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        ("1.weight", "1.bias"),
    ),
    "non-leaf": (
        "import torch\nfrom torch import nn\n"
        "torch.manual_seed(0)\n"
        "head = nn.Linear(4, 1)\n"
        "prompt = 0.02 * torch.randn(4, requires_grad=True)  # fault\n"
        "scale = torch.ones(1) * 2  # innocent\n"
        "optimizer = torch.optim.SGD([*head.parameters(), prompt], lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    (scale * head(prompt + torch.randn(8, 4))).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        (),
    ),
    "custom-function": (
        "import torch\nfrom torch import nn\n"
        "class Scale(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x, factor):\n"
        "        ctx.save_for_backward(x, factor)\n"
        "        return x * factor\n"
        "    @staticmethod\n"
        "    def backward(ctx, grad):\n"
        "        x, factor = ctx.saved_tensors  # innocent\n"
        "        return grad * factor, None  # fault\n"
        "net, factor = nn.Linear(3, 1), nn.Parameter(torch.ones(1))\n"
        "optimizer = torch.optim.SGD([*net.parameters(), factor], lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    (Scale.apply(net(torch.ones(8, 3)), factor) - 1).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        ("factor",),
    ),
    "zero-gradient": (
        "import torch\nfrom torch import nn\n"
        "torch.manual_seed(0)\n"
        "net, head = nn.Linear(3, 4), nn.Linear(4, 1)\n"
        "optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    hidden = torch.tanh(net(torch.randn(8, 3)))  # innocent\n"
        "    hidden = (hidden - 5).clamp(min=0)  # fault\n"
        "    head(hidden).sub(1).pow(2).mean().backward()\n"
        "    optimizer.step()\n",
        ("net.weight", "net.bias"),
    ),
}


@pytest.mark.parametrize("cause", WIRED)
def test_of_two_lines_that_could_be_named_for_a_cause_only_the_one_at_fault_is_proven(program, cause: str) -> None:  # type: ignore[no-untyped-def]
    source, affected = WIRED[cause]
    code = program(source)
    raised = "ValueError" if cause == "non-leaf" else None
    right, wrong = code.prove(code.claim(cause, "fault", affected), code.claim(cause, "innocent", affected), raised=raised)
    assert right.proven is True, right.text
    assert wrong.proven is not True, wrong.text


def test_a_detach_beside_a_cut_that_nobody_means_is_left_open(program) -> None:  # type: ignore[no-untyped-def]
    code = program(
        HEAD + "    hidden = first(x)\n"
        "    place = hidden.long()  # cast\n"
        "    table = torch.linspace(-1, 1, 41)\n"
        "    loss = (second(table[(place + 20).clamp(0, 40)] + hidden.detach()) - y).pow(2).mean()  # meant\n" + TAIL
    )
    cast, meant = code.prove(code.claim("integer-cast", "cast", FIRST), code.claim("detach", "meant", FIRST))
    assert cast.proven is True, cast.text
    assert meant.proven is None and "which of the two is at fault stays open" in meant.text


def test_a_gradient_that_is_not_finite_proves_nothing(program) -> None:  # type: ignore[no-untyped-def]
    body = "    hidden = first(x).detach()  # fault\n    loss = (second(hidden) - y).pow(2).mean() + (hidden * 0).norm()\n"
    code = program(HEAD + body.replace(".norm()", ".abs().sum().sqrt()") + TAIL)
    (proof,) = code.prove(code.claim("detach", "fault", FIRST))
    assert proof.proven is False and "not finite" in proof.text


def test_a_repair_that_breaks_the_cell_proves_nothing_and_says_how(program) -> None:  # type: ignore[no-untyped-def]
    code = program(
        HEAD + "    count = int(first(x).abs().sum().item())  # fault\n"
        "    loss = sum(second(torch.ones(8, 4)) for _ in range(count)).mean()\n" + TAIL
    )
    (proof,) = code.prove(code.claim("item", "fault", FIRST))
    assert proof.proven is None and "TypeError" in proof.text


def test_parameters_that_are_fed_when_the_cell_runs_again_as_it_is_prove_nothing(program) -> None:  # type: ignore[no-untyped-def]
    code = program(HEAD + "    hidden = first(x)\n    loss = (second(hidden + hidden.detach()) - y).pow(2).mean()  # fault\n" + TAIL)
    (proof,) = code.prove(code.claim("detach", "fault", FIRST))
    assert proof.proven is None and "when the cell runs again as it is, they get a gradient" in proof.text


def test_a_dead_term_is_proven_at_its_cut_and_not_at_another_detach(program) -> None:  # type: ignore[no-untyped-def]
    code = program(
        HEAD + "    hidden = first(x)\n"
        "    error = (second(hidden) / second(hidden).detach().abs().mean() - y).pow(2).mean()  # innocent\n"
        "    penalty = torch.tensor(hidden.pow(2).mean())  # fault\n"
        "    loss = error + penalty  # sum\n" + TAIL
    )
    term = code.claim("rewrap", "sum").location
    claim = code.claim("rewrap", "fault", term=term, inert=True)
    moved = replace(claim, cause="detach", location=code.claim("detach", "innocent").location)
    right, wrong = code.prove(claim, moved)
    assert right.proven is True and "the term carries a gradient" in right.text
    assert wrong.proven is False, wrong.text
