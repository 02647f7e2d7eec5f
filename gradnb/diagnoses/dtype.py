"""A tensor of the wrong dtype reaches a loss or a layer.

What happens
    NumPy computes in float64, class indices are int64, a model may be in float16. An operation whose operands do not fit
    raises, and sometimes only in the backward pass.

Why it matters
    The error names two dtypes at the place where they meet, while the wrong one came about elsewhere: at `torch.from_numpy`, at a
    cast, in the data set.

Fix
    Give the tensor its dtype where it is made: `.float()` behind `from_numpy`, `dtype=torch.float32`, `.long()` for class indices.

References
    https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.dtype
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import Lead, leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, subject

_INDEXED = ("cross_entropy", "nll_loss", "embedding", "gather", "scatter_", "one_hot", "__getitem__", "index_select")


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the operand whose dtype an operation refused."""
    for lead in leads(recording, "dtype"):
        title, why, fix = _words(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _words(lead: Lead) -> tuple[str, str, str]:
    details = lead.details
    dtype, other, operation = str(details.get("dtype") or ""), str(details.get("other") or ""), str(details.get("operation") or "")
    if details.get("indices"):
        return (
            f"class indices are turned into {dtype} and are taken for something else by {quote(operation)}",
            f"{subject(lead, 'This line')}{place(lead)} makes floats of indices of dtype {details.get('from')}. "
            f"Their shape is {list(details.get('shape') or ())}, while the prediction has {list(details.get('logits') or ())}"
            + ("." if details.get("raised") else ": they fit by accident, every sample meets those of others, and nothing is raised."),
            "Pass the indices as they are (`.long()`), or one-hot encode them first.",
        )
    if not dtype:
        return (
            "the dtype of a tensor does not allow this operation",
            f"{subject(lead, 'This line')}{place(lead)} needs another dtype, as the error says.",
            "Only floating point tensors can require grad or be differentiated: `.float()`, or `dtype=torch.float32` where it is made.",
        )
    wanted = f", where {other} is expected" if other else ""
    needs_index = operation in _INDEXED and dtype.startswith("float")
    cast = "`.long()`" if needs_index else "`.float()`" if dtype in ("float64", "int64", "int32", "bool", "uint8") else "`.float()`"
    return (
        f"a tensor of dtype {dtype} reaches {quote(operation)}{wanted}",
        f"{subject(lead, 'This line')}{place(lead)} is where it got the dtype {dtype}.",
        f"Change it where it is made: {cast}, or the matching `dtype=`.",
    )


def bad() -> None:
    """The features come out of NumPy in double precision."""
    import numpy
    import torch
    from torch import nn

    torch.manual_seed(0)

    def load_features(count):
        angles = numpy.linspace(0.0, 6.0, count)
        table = numpy.stack([numpy.sin(angles), numpy.cos(angles)], axis=1)
        return torch.from_numpy(table)  # <- here

    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    features, target = load_features(16), torch.randn(16, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(features), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """They are made single precision where they become a tensor."""
    import numpy
    import torch
    from torch import nn

    torch.manual_seed(0)

    def load_features(count):
        angles = numpy.linspace(0.0, 6.0, count)
        table = numpy.stack([numpy.sin(angles), numpy.cos(angles)], axis=1)
        return torch.from_numpy(table).float()

    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    features, target = load_features(16), torch.randn(16, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(features), target)
        loss.backward()
        optimizer.step()
