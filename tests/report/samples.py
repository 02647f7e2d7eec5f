"""Reports built by hand, as a notebook would give them."""

from __future__ import annotations

from gradnb.recorder.recording import Location
from gradnb.report.finding import Finding, Hop, Related
from gradnb.report.report import LossRow, ParameterRow, RaisedRow, Report, StepRow

CELL = "<ipython-input-4-a1b2c3>"
CODE = '''%%gradcheck
import torch
from torch import nn


class AdaptiveGraph(nn.Module):
    """Learns the adjacency of a sensor network."""

    def __init__(self, nodes, width):
        super().__init__()
        self.theta = nn.Linear(width, width)
        self.source = nn.Parameter(torch.randn(nodes, width))

    def forward(self, x):
        scores = torch.relu(self.theta(self.source) @ self.source.T)
        adjacency = torch.softmax(scores.detach(), dim=-1)
        return adjacency @ x


class Block(nn.Module):
    def __init__(self, nodes, width):
        super().__init__()
        self.graph = AdaptiveGraph(nodes, width)
        self.mix = nn.Linear(width, width)

    def forward(self, x):
        return x + torch.relu(self.mix(self.graph(x)))


model = Forecaster(nodes=20, width=16, depth=2)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(5):
    opt.zero_grad()
    prediction = model(x)
    loss = nn.functional.mse_loss(prediction, y)
    loss.backward()
    opt.step()
'''


def at(line: int, part: str = "", function: str = "<module>", code: str = CODE, cell: int = 4, filename: str = CELL) -> Location:
    """A location as the recorder makes it: columns are UTF-8 byte offsets into the line."""
    raw = code.splitlines()[line - 1]
    column = len(raw[: raw.index(part)].encode()) if part else None
    end = column + len(part.encode()) if column is not None else None
    return Location(cell, None, line, function, raw.strip(), line, column, end, filename)


def row(name: str, gradient: str = "ok", norm: float | None = 0.01, **other: object) -> ParameterRow:
    values: dict = {"shape": (16, 16), "dtype": "float32", "device": "cpu", "trainable": True, "reached": True}
    values.update({"optimizer": 0, "moved": True, **other})
    if gradient == "none":
        norm, values["moved"] = None, values["moved"] and None
    return ParameterRow(name=name, gradient=gradient, grad_norm=norm, **values)


STARVED = [f"blocks.{i}.graph.{leaf}" for i in (0, 1) for leaf in ("theta.weight", "theta.bias", "source")]


GRAPH = "blocks.0.graph"


def hop(label: str, state: str, line: int | None, part: str = "", kind: str = "op", module: str | None = GRAPH, **other: object) -> Hop:
    values: dict = {"dtype": "float32", "shape": (20, 16), "requires_grad": state == "flowing", "grad_mode": "on"}
    values.update(other)
    return Hop(label, kind, at(line, part, "forward") if line else None, state=state, module=module, **values)


def detach() -> Finding:
    return Finding(
        cause="detach",
        severity="error",
        title="`.detach()` cuts 6 parameters off from the loss",
        explanation="The scores go on into the loss as plain numbers, so backward() stops here and never reaches `blocks.*.graph`. "
        "The loss still falls because the rest of the model learns around the frozen graph.",
        fix="Drop the call:\n\n    adjacency = torch.softmax(scores, dim=-1)",
        location=at(16, "scores.detach()", "forward"),
        related=[Related(at(17, "adjacency @ x", "forward"), "the value without history joins the loss again here")],
        affected=STARVED,
        path=[
            hop("blocks.0.graph.theta.weight", "flowing", None, kind="parameter"),
            hop("linear", "flowing", 15, "self.theta(self.source)", module="blocks.0.graph.theta"),
            hop("matmul", "flowing", 15, "self.theta(self.source) @ self.source.T"),
            hop("relu", "flowing", 15, "torch.relu(self.theta(self.source) @ self.source.T)"),
            hop("detach", "lost", 16, "scores.detach()"),
            hop("softmax", "after", 16, "torch.softmax(scores.detach(), dim=-1)"),
            hop("matmul", "after", 17, "adjacency @ x"),
            hop("linear", "after", 27, "self.mix(self.graph(x))", module="blocks.0.mix", requires_grad=True),
            hop("relu", "after", 27, "torch.relu(self.mix(self.graph(x)))", module="blocks.0", requires_grad=True),
            hop("add", "after", 27, "x + torch.relu(self.mix(self.graph(x)))", module="blocks.0", requires_grad=True),
            hop("linear", "after", 34, "model(x)", module="head", requires_grad=True),
            hop("loss", "after", 35, "nn.functional.mse_loss(prediction, y)", kind="loss", module=None, requires_grad=True, shape=()),
        ],
        rank=2,
    )


def rich() -> Report:
    """Two errors, a warning and a remark on a model of 14 parameters."""
    rows = [row(name, "none") for name in STARVED]
    rows += [row(f"blocks.{i}.mix.{leaf}", norm=n) for i, n in ((0, 0.012), (1, 0.34)) for leaf in ("weight", "bias")]
    rows += [row("head.weight", norm=2.34e-4), row("head.bias", norm=1.2), row("gate.scale", "zero", 0.0, moved=False)]
    rows.append(row("embedding.weight", "none", trainable=False, optimizer=None, moved=False))
    gate = Finding(
        cause="zero-gradient",
        severity="error",
        title="`gate.scale` gets a gradient of exactly zero",
        explanation="The gate is multiplied by zero.",
        fix="Start the gate at a small value, such as 1e-3.",
        location=at(27, "torch.relu(self.mix(self.graph(x)))", "forward"),
        affected=["gate.scale"],
    )
    twice = Finding(
        cause="zero-grad-misplaced",
        severity="warning",
        title="`opt.zero_grad()` runs twice in a step",
        explanation="The second call is harmless here.",
        fix="Keep one.",
        location=at(33, "opt.zero_grad()"),
    )
    note = Finding(
        cause="frozen",
        severity="info",
        title="`embedding.weight` is frozen",
        explanation="It was frozen before the run.",
        fix="Nothing to do if meant.",
        location=None,
        affected=["embedding.weight"],
    )
    place = {"zero_grad": 33, "backward": 36, "step": 37}
    return Report(
        findings=[detach(), gate, twice, note],
        parameters=rows,
        losses=[LossRow("loss", 0.4523, at(35), True)],
        steps=[StepRow(kind, at(line), True) for _ in range(5) for kind, line in place.items()],
        environment={"python": "3.13.1", "torch": "2.11.0", "ipython": "7.34.0", "gradnb": "0.1.0", "device": "cpu"},
        optimizers=["opt (Adam)"],
        sources={CELL: CODE},
        notes=["2 further steps were counted, not recorded"],
    )


def healthy() -> Report:
    rows = [row(f"encoder.{i}.{leaf}", norm=10.0**-i) for i in range(6) for leaf in ("weight", "bias")]
    return Report(
        parameters=rows,
        steps=[StepRow("step", at(37), True)] * 5,
        optimizers=["opt (Adam)"],
        environment={"python": "3.13.1", "torch": "2.11.0"},
    )


def crowded(parameters: int = 300, findings: int = 20) -> Report:
    """A large model with many findings."""
    attention = ["attn.q.weight", "attn.k.weight", "attn.v.weight", "attn.out.weight"]
    leaves = [*attention, "mlp.up.weight", "mlp.up.bias", "mlp.down.weight", "norm.weight"]
    kinds = ["ok", "ok", "none", "ok", "ok", "zero", "nan", "ok", "ok", "inf"]
    report = rich()
    report.parameters = [
        row(f"decoder.layers.{i // 8}.{leaves[i % 8]}", kinds[(i * 7 + i // 8) % 10], 10.0 ** (-i / 20), optimizer=i % 3)
        for i in range(parameters)
    ]
    affected = [r.name for r in report.parameters if r.gradient != "ok"]
    made = []
    for i in range(findings):
        found = detach()
        found.affected = affected[i::3]
        found.explanation = found.explanation * 3
        found.related = found.related * 3
        found.path = found.path[:4] + [found.path[3]] * 80 + found.path[4:]
        found.severity = "error" if i % 2 else "warning"
        made.append(found)
    report.findings = made
    report.steps = report.steps * 100
    report.optimizers = ["opt (Adam)", "slow (SGD)", "head_opt (AdamW)"]
    return report


def hostile() -> Report:
    """Names, code and messages that try to leave their place."""
    evil = "<script>alert(1)</script>"
    code = f'x = "{evil}" + \'"&\x1b[31m\'\ny = 1\n'
    place = Location(4, None, 1, evil, code.splitlines()[0], 1, 4, 20, evil)
    finding = detach()
    finding.title = finding.explanation = finding.fix = finding.cause = evil
    finding.location = place
    finding.affected = [evil + ".weight\x1b[31m", '"><img src=x onerror=alert(1)>']
    finding.related = [Related(place, evil)]
    finding.path = [Hop(evil, "op", place, evil, (1,), True, evil, state, evil) for state in ("flowing", "lost", "after")]
    return Report(
        findings=[finding],
        parameters=[row(name, "none") for name in finding.affected] + [row(evil, dtype=evil, device=evil)],
        losses=[LossRow(evil, 1.0, place, True)],
        steps=[StepRow(evil, place, False)],
        raised=RaisedRow(evil, evil + "\x00\n" + evil, place),
        environment={"python": evil, evil: evil},
        optimizers=[evil],
        sources={evil: code},
        notes=[evil],
    )
