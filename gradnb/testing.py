"""``gradnb.assert_gradients_flow()``: a line for a test that fails when a parameter gets no gradient."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from .check import unrecorded
from .errors import GradientFlowError, UsageError
from .preflight import plain
from .recorder.gradients import norms, state
from .report import fold, words
from .report.finding import Finding
from .report.report import Report
from .report.text import findings
from .trial.kept import Kept
from .trial.step import Trial

_STATES = {"none": "no gradient", "zero": "a gradient of zeros only", "nan": "a gradient with NaN", "inf": "a gradient with Inf"}


def assert_gradients_flow(
    model: torch.nn.Module,
    loss: Callable[..., torch.Tensor] | torch.Tensor,
    *,
    inputs: Sequence[Any] = (),
    ignore: Sequence[str] = (),
    allow_zero: bool = False,
) -> None:
    """Fail unless every trainable parameter of ``model`` gets a finite, non-zero gradient from ``loss``.

    Gradients, buffers, random streams and the model are left as they were, and a graph can be used again.

    Parameters
    ----------
    model
        The module whose parameters are looked at.
    loss
        A function that computes the scalar loss: it is called as ``loss(model, *inputs)``, without ``inputs`` as ``loss(model)`` or
        ``loss()``, whichever it takes, and recorded, so that a failure names the line, the cause and the repair. Or the scalar itself
        (one element), computed before: then a failure can only name the parameters.
    inputs
        What else ``loss`` is called with.
    ignore
        Names of parameters that need no gradient: ``"head.bias"``, ``"teacher.*"``.
    allow_zero
        Let gradients of exact zeros pass (LoRA's A in its first step).

    Raises
    ------
    GradientFlowError
        An AssertionError: a parameter gets no gradient, or zeros, NaN or infinity; or a finding is an error.
    UsageError
        For arguments that cannot be used. What ``loss`` raises goes on as it is, unless a finding explains it.
    """
    __tracebackhide__ = True
    with unrecorded():
        _assert(model, loss, inputs, ignore, allow_zero)


def _assert(model: Any, loss: Any, inputs: Sequence[Any], ignore: Sequence[str], allow_zero: bool) -> None:
    __tracebackhide__ = True
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is of type {type(model).__name__}; an nn.Module is expected")
    if isinstance(ignore, str) or isinstance(inputs, (torch.Tensor, str, dict)):
        name, given = ("ignore", ignore) if isinstance(ignore, str) else ("inputs", inputs)
        raise UsageError(
            f"{name} is of type {type(given).__name__}; a tuple or list is expected: {name}=({'...' if name == 'inputs' else repr(given)},)"
        )
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad and not _empty(p)}
    names = [name for name, _ in model.named_parameters()]
    excused = _matching(ignore, names)
    if not trainable:
        raise GradientFlowError(
            f"the model has no trainable parameter: {f'all {len(names)} are frozen' if names else 'it has none at all'}"
        )
    report, states = _computed(loss, trainable) if isinstance(loss, torch.Tensor) else _recorded(model, loss, inputs, trainable)
    if allow_zero:
        excused |= {name for name, found in states.items() if found == "zero"}
    failing = {name: found for name, found in states.items() if found != "ok" and name not in excused}
    said = [f for f in report.findings if not _excuses(f, excused)] if report is not None else []
    if failing or any(finding.severity == "error" for finding in said):
        raise GradientFlowError(_message(failing, list(trainable), report, said), report)


def _computed(loss: torch.Tensor, trainable: dict[str, torch.nn.Parameter]) -> tuple[None, dict[str, str]]:
    """By ``autograd.grad``, which leaves every ``.grad`` alone."""
    if loss.numel() != 1:
        raise UsageError(f"the loss has the shape {tuple(loss.shape)}; a scalar is expected, such as its mean")
    if not loss.requires_grad:
        return None, dict.fromkeys(trainable, "none")
    return None, _states(trainable, torch.autograd.grad(loss, list(trainable.values()), retain_graph=True, allow_unused=True))


def _recorded(
    model: torch.nn.Module, loss: Any, inputs: Sequence[Any], trainable: dict[str, torch.nn.Parameter]
) -> tuple[Report, dict[str, str]]:
    """By a trial step on the model itself, because ``loss`` may hold on to it; everything is put back."""
    call = _call(model, loss, inputs)
    kept = Kept()
    try:
        kept.module(model)
        for parameter in model.parameters():
            parameter.grad = None
        report, error = Trial(call, model, plain(model), model, 1, "trial").run()
        if error is not None and not any(finding.severity == "error" for finding in report.findings):
            raise error
        return report, _states(trainable, [p.grad for p in trainable.values()])
    finally:
        kept.restore()


def _call(model: torch.nn.Module, loss: Any, inputs: Sequence[Any]) -> Callable[[], Any]:
    if not callable(loss) or isinstance(loss, torch.nn.Module):
        kind = f"the criterion {type(loss).__name__}" if isinstance(loss, torch.nn.Module) else f"of type {type(loss).__name__}"
        raise UsageError(f"loss is {kind}; a function that computes the loss, or the scalar loss itself, is expected")
    ways = [(model, *inputs)] if inputs else [(), (model,)]
    try:
        signature = inspect.signature(loss)
    except ValueError:  # a builtin without one
        return lambda: loss(*ways[-1])
    for arguments in ways:
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return lambda: loss(*arguments)
    shown = "loss(model, *inputs)" if inputs else "loss() or loss(model)"
    raise UsageError(f"loss takes {signature}, and is called as {shown}; give the rest by inputs=(...,) or a lambda")


def _states(trainable: dict[str, torch.nn.Parameter], found: Sequence[torch.Tensor | None]) -> dict[str, str]:
    given = {name: gradient.detach() for name, gradient in zip(trainable, found) if gradient is not None}
    measured = dict(zip(given, norms(list(given.values())))) if given else {}
    return {name: state(measured[name]) if name in given else "none" for name in trainable}


def _empty(parameter: torch.nn.Parameter) -> bool:
    return not isinstance(parameter, UninitializedTensorMixin) and parameter.numel() == 0


def _matching(patterns: Sequence[str], names: list[str]) -> set[str]:
    found = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            raise UsageError(f"ignore={pattern!r} matches no parameter of the model; its parameters: {', '.join(fold.names(names, names))}")
        found |= matched
    return found


def _excuses(finding: Finding, excused: set[str]) -> bool:
    """Is everything that the finding is about excused? With several modules in play, names begin with that of the model."""
    return bool(finding.affected) and all(name in excused or name.removeprefix("model.") in excused for name in finding.affected)


def _message(failing: dict[str, str], names: list[str], report: Report | None, said: list[Finding]) -> str:
    lines = []
    for kind, text in _STATES.items():
        affected = [name for name, found in failing.items() if found == kind]
        if affected:
            verb = "gets" if len(names) == 1 else "get"
            noun = "parameter" if len(names) == 1 else "parameters"
            lines.append(f"{len(affected)} of {len(names)} trainable {noun} {verb} {text}: {', '.join(fold.names(affected, names))}")
    if report is None:
        lines += ["", "Pass a function instead of the computed loss, and the line and the cause are named:"]
        lines += ["    gradnb.assert_gradients_flow(model, lambda: compute_the_loss())"]
    else:
        shown = Report(findings=said, parameters=report.parameters, sources=report.sources, raised=report.raised)
        lines += findings(shown)
        if report.raised is not None:
            lines += ["", words.raised(report)]
    if any(found == "zero" for found in failing.values()):
        lines += ["", "Where zeros are right here, pass allow_zero=True, or ignore=(names,)."]
    return "\n".join(lines)
