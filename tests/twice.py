"""Runs a program twice, bare and under ``gradnb.check()``, and says what came out differently."""

from __future__ import annotations

import contextlib
import gc
import io
import linecache
import random
import sys
import textwrap
import types
import warnings
from dataclasses import dataclass, field
from typing import Any, Iterator

import torch

import gradnb
from gradnb.report.report import Report

_ALARM = ("error", "warning")


@dataclass
class Twice:
    """What a program did: the report of its checked run, the differences between the runs, the errors of both."""

    report: Report
    names: dict[str, Any]
    different: list[str]
    errors: tuple[BaseException | None, BaseException | None]
    compared: int
    filename: str
    source: str
    alarms: list[str] = field(default_factory=list)

    def line(self, mark: str = "# <- here") -> int:
        return next(i for i, text in enumerate(self.source.splitlines(), 1) if mark in text)


def twice(source: str, name: str = "program", *, seed: int = 0, steps: int = 5, before: str = "") -> Twice:
    """Run the source in two fresh namespaces as a notebook would, first bare, then under the check.

    ``before`` is run first in each namespace and is not checked: an earlier cell.
    """
    source, before = textwrap.dedent(source).strip("\n") + "\n", textwrap.dedent(before)
    name = name.replace(" ", "-").replace("/", "-")
    filenames = [_cell(f"<ipython-input-{number}-{name}>", text) for number, text in ((1, before), (2, source))]

    def run(checked: bool) -> tuple[dict[str, Any], BaseException | None, Report | None, dict[str, Any]]:
        with _process(seed) as names:
            exec(compile(before, filenames[0], "exec"), names)
            manager = gradnb.check(namespace=names, steps=steps)
            manager.cells = {filename: number for number, filename in enumerate(filenames, 1)}
            error = report = None
            try:
                with manager if checked else contextlib.nullcontext() as report:
                    exec(compile(source, filenames[1], "exec"), names)
            except BaseException as raised:
                error = raised
            return dict(_facts("", {**names, "(random)": _random()}, {})), error, report, names

    bare, failed, _, _ = run(False)
    state, error, report, names = run(True)
    assert report is not None
    different = _differences(bare, state)
    if different:  # the first run may have imported what draws random numbers, or filled a cache: ask again
        bare, failed, _, _ = run(False)
        different = _differences(bare, state)
    if repr(failed) != repr(error):
        different.append(f"the error: bare {failed!r}, checked {error!r}")
    found = Twice(report, names, different, (failed, error), len(bare), filenames[1], source)
    found.alarms = [
        f"{f.cause} at {f.location.line if f.location else '?'}: {f.title}" for f in report.findings if f.severity in _ALARM
    ] + [note for note in report.notes if "internal problem" in note or "failed and was skipped" in note or "could not be followed" in note]
    return found


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [key for key in {**one, **other} if one.get(key, "missing") != other.get(key, "missing")]


def assert_healthy(source: str, name: str = "program", **options: Any) -> Twice:
    """The program ends the same, bit for bit, with and without the check; and the check has nothing to say."""
    found = twice(source, name, **options)
    assert found.errors == (None, None), found.errors
    assert found.compared > 1, "the program left nothing to compare"
    assert not found.different, found.different
    assert not found.alarms, "\n".join([*found.alarms, repr(found.report)])
    return found


def _cell(filename: str, source: str) -> str:
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    return filename


@contextlib.contextmanager
def _process(seed: int) -> Iterator[dict[str, Any]]:
    """A fresh ``__main__`` and fixed seeds; what the program prints and warns of goes nowhere."""
    main, module = sys.modules["__main__"], types.ModuleType("__main__")
    random.seed(seed)
    torch.manual_seed(seed)
    with contextlib.suppress(ImportError):
        import numpy

        numpy.random.seed(seed)
    sys.modules["__main__"] = module
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield module.__dict__
    finally:
        sys.modules["__main__"] = main
        gc.collect()


def _random() -> list[Any]:
    found: list[Any] = [random.getstate(), torch.get_rng_state()]
    if "numpy" in sys.modules:
        found.append(str(sys.modules["numpy"].random.get_state()[1:3]))
    return found


def _facts(path: str, value: Any, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Everything comparable that can be reached from a namespace: (path, bits)."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        yield path, repr(value)
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    if isinstance(value, torch.Tensor):
        yield path, _bits(value)
        if value.is_leaf and value.grad is not None:
            yield f"{path}.grad", _bits(value.grad)
    elif isinstance(value, torch.nn.Module):
        for key, tensor in [*value.named_parameters(), *value.named_buffers()]:
            yield from _facts(f"{path}.{key}", tensor, seen)
        yield f"{path}.training", str([m.training for m in value.modules()])
    elif isinstance(value, torch.optim.Optimizer):
        yield from _facts(f"{path}.state", value.state_dict(), seen)
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            if not str(key).startswith("__"):
                yield from _facts(f"{path}.{key}", item, seen)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _facts(f"{path}[{position}]", item, seen)
    elif type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        yield path, value.tobytes()


def _bits(tensor: torch.Tensor) -> tuple:
    told = (str(tensor.dtype), str(tensor.layout), str(tensor.device), tensor.requires_grad)
    try:
        with torch.no_grad():
            return (*told, tensor.dim() if tensor.is_nested else tuple(tensor.shape), _bytes(tensor.detach()))
    except Exception as error:  # an uninitialised parameter has neither shape nor numbers
        return (*told, type(error).__name__)


def _bytes(tensor: torch.Tensor) -> bytes | str | tuple:
    if tensor.is_meta:
        return "meta"
    if tensor.is_nested:
        return tuple(_bytes(part) for part in tensor.unbind())
    if tensor.layout != torch.strided:
        return _bytes(tensor.to_dense())
    if tensor.is_quantized:
        return _bytes(tensor.int_repr())
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.flatten())
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
