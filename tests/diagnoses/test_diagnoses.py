"""Every diagnosis against its own examples: `bad()` is named at its line, `good()` is met with silence."""

from __future__ import annotations

import contextlib
import importlib
import linecache
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import gradnb
from gradnb import diagnoses
from gradnb.diagnoses._program import MARK, program
from gradnb.errors import UsageError
from gradnb.flow.lead import Lead
from gradnb.recorder.recording import Location, Recording
from gradnb.report.finding import Finding, Related

EXPECTED = [
    "autocast",
    "checkpoint-reentrant",
    "clip-scaled",
    "custom-function",
    "data",
    "detach",
    "diluted-loss",
    "double-step",
    "dtype",
    "eval-mode",
    "exploding",
    "fp16-unscale",
    "frozen",
    "inert-term",
    "inference-tensor",
    "inplace-modified",
    "integer-cast",
    "item",
    "leaf-inplace",
    "nan",
    "no-grad",
    "no-inf-checks",
    "non-leaf",
    "nondifferentiable",
    "not-in-optimizer",
    "not-scalar",
    "not-twice-differentiable",
    "numpy",
    "remainder",
    "reparameter",
    "rewrap",
    "scaler-misuse",
    "second-backward",
    "shape-mismatch",
    "sign",
    "step-missing",
    "unregistered",
    "unscale-twice",
    "unused",
    "unused-in-grad",
    "vanishing",
    "zero-grad-misplaced",
    "zero-grad-missing",
    "zero-gradient",
]
HEADINGS = ["What happens", "Why it matters", "Fix", "References"]
# What PyTorch itself says of a bad() program; the others train in silence.
RAISES = {
    "autocast": "value cannot be converted to type",
    "dtype": "must have the same dtype",
    "fp16-unscale": "Attempting to unscale FP16 gradients",
    "inference-tensor": "Inference tensors cannot be saved for backward",
    "inplace-modified": "modified by an inplace operation",
    "item": "does not require grad and does not have a grad_fn",
    "leaf-inplace": "a leaf Variable that requires grad",
    "no-inf-checks": "No inf checks were recorded for this optimizer",
    "non-leaf": "can't optimize a non-leaf Tensor",
    "not-scalar": "grad can be implicitly created only for scalar outputs",
    "not-twice-differentiable": "does not require grad and does not have a grad_fn",
    "second-backward": "backward through the graph a second time",
    "unscale-twice": "unscale_() has already been called on this optimizer",
    "unused-in-grad": "appears to not have been used in the graph",
}


def module_of(slug: str) -> Any:
    return importlib.import_module(f"gradnb.diagnoses.{slug.replace('-', '_')}")


def compiled(source: str, name: str) -> Any:
    """The program as code under a name of its own, with its lines where tracebacks and gradnb look for them."""
    filename = str(Path(__file__).with_name(f"program_{name.replace('-', '_')}.py"))
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return compile(source, filename, "exec")


def run(source: str, name: str, checked: bool = True) -> tuple[Any, Exception | None, dict[str, Any]]:
    """The report of the program (None unless ``checked``), what it raised, and its namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    code = compiled(source, name)
    report, raised = None, None
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        try:
            with gradnb.check(namespace=namespace) if checked else contextlib.nullcontext() as report:
                exec(code, namespace)
        except (AssertionError, RuntimeError, ValueError) as error:
            raised = error
    return report, raised, namespace


def alarms(report: Any) -> list[str]:
    return [f"{f.cause} at {f.location}: {f.title}" for f in report.findings if f.severity in ("error", "warning")]


def test_the_causes_are_found_by_themselves() -> None:
    # More causes are welcome; none of these may get lost or renamed.
    assert set(EXPECTED) <= set(diagnoses.slugs())
    assert diagnoses.slugs() == sorted(diagnoses.slugs())


@pytest.mark.parametrize("slug", diagnoses.slugs())
def test_bad_is_named_at_its_line(slug: str) -> None:
    source, marked = program(module_of(slug), "bad")
    assert marked, f"bad() of {slug} has no line marked {MARK!r}"
    report, _, _ = run(source, slug)
    assert report.findings, "nothing found"
    first = report.findings[0]
    assert first.cause == slug, alarms(report)
    assert first.location is not None and first.location.line in marked, alarms(report)
    # The echoes of a fault (a parameter that no optimizer holds because it was made anew) are not reported beside it.
    assert len(alarms(report)) == 1, alarms(report)


@pytest.mark.parametrize("name", diagnoses.slugs())
def test_good_is_met_with_silence(name: str) -> None:
    report, raised, _ = run(program(module_of(name), "good")[0], name)
    assert raised is None
    assert alarms(report) == []


@pytest.mark.parametrize("name", diagnoses.slugs())
def test_bad_behaves_as_users_meet_it(name: str) -> None:
    _, raised, _ = run(program(module_of(name), "bad")[0], name, checked=False)
    assert RAISES.get(name, "") in str(raised)
    assert (raised is not None) == (name in RAISES)


@pytest.mark.parametrize("name", diagnoses.slugs())
def test_good_trains_every_parameter(name: str) -> None:
    source, marked = program(module_of(name), "good")
    assert marked == []
    _, raised, namespace = run(source, name, checked=False)
    assert raised is None
    held = [p for value in namespace.values() if isinstance(value, torch.optim.Optimizer) for g in value.param_groups for p in g["params"]]
    built = [p for value in namespace.values() if isinstance(value, torch.nn.Module) for p in value.parameters()]
    assert held and {id(p) for p in built} <= {id(p) for p in held}
    for parameter in held:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-9


@pytest.mark.parametrize("slug", diagnoses.slugs())
def test_explain_tells_it_from_the_one_source(slug: str) -> None:
    module = module_of(slug)
    document = module.__doc__
    text = gradnb.explain(slug)
    assert document and document.splitlines()[0].endswith(".")
    assert [line for line in document.splitlines() if line in HEADINGS] == HEADINGS
    assert text.splitlines()[0] == slug
    for part in (document.splitlines()[0], MARK, *HEADINGS, "Wrong", "Right", "https://"):
        assert part in text
    assert "def bad" not in text and "def good" not in text


FULL: dict[str, list[dict[str, Any]]] = {
    "autocast": [
        {"kind": "raised", "operation": "masked_fill", "dtype": "float16", "message": "value cannot be converted to type c10::Half"},
        {"kind": "raised", "operation": "binary_cross_entropy", "dtype": "float16", "message": "BCELoss are unsafe to autocast."},
        {"kind": "backward", "dtype": "bfloat16"},
        {"kind": "step-inside", "dtype": "bfloat16"},
    ],
    "clip-scaled": [{"kind": kind, "optimizer": "opt"} for kind in ("scaled", "decided", "after-step")],
    "custom-function": [
        {"function": "Blend", "missing": "returns None for argument 3"},
        {"function": "Blend", "ignored": "grad_alpha"},
        {"function": "Blend", "missing": "reads a tensor that is not among its arguments"},
    ],
    "diluted-loss": [
        {"elements": 1152, "right": 1117, "loss_right": 0.02, "loss_wrong": 6.0, "share": 35 / 1152, "never": never}
        for never in (0, 20, 35)
    ],
    "double-step": [{"kind": "twice", "optimizer": "opt"}],
    "dtype": [
        {"dtype": "float64", "other": "float32", "operation": "linear"},
        {"dtype": "float32", "operation": "cross_entropy"},
        {"dtype": "float32", "from": "int64", "operation": "kl_div", "indices": True, "shape": (6, 7), "logits": (6, 10, 7)},
    ],
    "eval-mode": [
        {"kind": kind, "model": "net", "drops": drops, "steps": steps, "of": 5, "since_start": steps == 5}
        for kind in ("left", "not-called")
        for drops in (True, False)
        for steps in (1, 5)
    ],
    "fp16-unscale": [{"cast": cast, "optimizer": "opt"} for cast in (True, False)],
    "frozen": [{"misspelled": "required_grad"}, {"on_module": True}, {"group": 1}, {"all": True}],
    "inplace-modified": [
        *({"kind": kind, "needed": "self.net(x)", "names": names} for kind in ("step", "load", "call") for names in ([], ["net.0.weight"])),
        {"kind": "call", "module": "net.1"},
        {"kind": "unseen"},
        {"kind": "late"},
        {"kind": "view"},
    ],
    "integer-cast": [{"dtype": "torch.bool"}, {"dtype": "int64"}],
    "item": [{"into": "torch.tensor(losses)"}, {"into": "total"}],
    "leaf-inplace": [{"parameter": parameter, "view": view} for parameter in (True, False) for view in (True, False)],
    "no-grad": [
        {"region": "inference_mode", "decorator": True},
        {"region": "set_grad_enabled"},
        {"region": "no_grad", "library": "torch.distributions"},
    ],
    "no-inf-checks": [
        {"kind": "stepped-already", "optimizer": "opt", "leftover": True},
        {"kind": "stepped-already", "optimizer": "opt", "leftover": False},
        {"kind": "cleared", "optimizer": "opt"},
        {"kind": "cut", "optimizer": "opt", "cut": "numpy", "operation": "numpy"},
        {"kind": "never-fed", "optimizer": "Adam"},
    ],
    "nondifferentiable": [{"library": "torch.distributions"}],
    "non-leaf": [{"name": "codebook", "raised": True}, {"attribute": "gate"}],
    "not-in-optimizer": [{"exhausted": True}, {"stale": True, "optimizer": "opt"}, {"replaced": True, "optimizer": "opt (Adam)"}],
    "not-scalar": [{"shape": (16,), "helper": "kl"}],
    "remainder": [
        {"kind": kind, "optimizer": "opt", "count": count, "size": 4}
        for kind in ("twice", "empty", "lost", "leaked", "divided")
        for count in (1, 3)
    ],
    "scaler-misuse": [
        {"kind": kind, "optimizer": "opt"}
        for kind in (
            *("loss-not-scaled", "other-scaler", "update-between", "stepped-past", "plain-step", "step-twice"),
            *("update-skipped", "update-missing", "update-without-step"),
        )
    ],
    "second-backward": [
        {"kind": kind, "name": name, "kept": kept}
        for kind in ("carried", "loss", "twice", "branch", "recompute", "shared", "grad", "before", "stale", "late", "unknown")
        for name in ("self.state", "")
        for kept in (True, False)
    ],
    "shape-mismatch": [
        {"kind": "pairs", "small": (20, 1), "other": (20,)},
        {"kind": "repeated", "small": (64, 1), "other": (64, 4)},
        {"kind": "axis", "small": (8, 1), "other": (8,)},
        {"kind": "target", "small": (8, 5), "other": (8, 1), "operation": "cross_entropy"},
        {"kind": "vectors", "size": 10, "other": 12, "extra": ["net.0.weight"]},
        {"kind": "vectors", "size": 10, "other": 12, "missing": ["net.0.weight", "net.0.bias"], "gradients": True},
    ],
    "sign": [
        {"kind": kind, "term": "dist.entropy()", "operation": "mse_loss"}
        for kind in (
            *("entropy", "log-prob", "likelihood", "policy", "cosine", "error", "maximize"),
            *("kl", "adversarial", "value"),
        )
    ],
    "step-missing": [
        {"kind": kind, "optimizer": name}
        for kind in ("never", "other", "not-called", "scheduler", "condition", "backward-condition", "no-backward")
        for name in ("opt", "opt (Adam)", "Adam")
    ],
    "unregistered": [{"owner": "Net", "attribute": "blocks", "container": "list"}, {"empty": True, "container": "closure"}],
    "unscale-twice": [{"kind": kind, "optimizer": "opt"} for kind in ("again", "after-step", "update-skipped", "update-missing")],
    "unused": [{"called": True, "module": "adapter"}, {"called": False, "module": "adapter"}],
    "unused-in-grad": [{"module": "pooler"}, {"other": True}, {"plain": True}, {"module": "pooler", "allowed": True}],
    "zero-grad-misplaced": [
        {"kind": "before-step", "optimizer": "opt"},
        {"kind": "between", "optimizer": "opt", "kept": 1, "lost": 3},
        {"kind": "between", "optimizer": "opt", "kept": 2, "lost": 2},
    ],
    "zero-grad-missing": [{"optimizer": "opt (Adam)", "steps": 4}],
    "exploding": [
        {"kind": "diverged", "losses": [1.0, 30.0], "options": {"lr": 0.5}, "name": "w", "before": 1.0, "after": 9e3},
        {"kind": "chain", "blame": "factor", "operation": "mul", "times": 24, "each": 3.2, "whole": 1e12, "norm": 7e13},
        {"kind": "chain", "blame": "weights", "operation": "linear", "times": 9, "each": 8.0, "whole": 1e8},
        {"kind": "point", "blame": "operation", "operation": "div", "times": 1, "each": 1e9, "whole": 1e9},
    ],
    "nan": [
        {"kind": kind, "phase": phase, "state": state, "hidden": hidden, "inputs": ["shape (4, 7), 3 of 28 elements are 0"]}
        for kind in ("division", "softmax-row", "overflow", "custom", "unheard of")
        for phase, state, hidden in (("forward", "inf", False), ("backward", "NaN", True))
    ]
    + [
        {"phase": "input", "state": "NaN", "name": "x"},
        {"phase": "input", "state": "NaN", "made": True},
        {"phase": "parameter", "state": "NaN", "name": "w"},
        {"phase": "step", "state": "NaN", "name": "w", "options": {"lr": 0.1, "eps": 0.0}},
        {"phase": "late", "state": "inf", "options": {"step": 37.0}},
    ],
    "vanishing": [
        {
            "blame": blame,
            "operation": "mul",
            "factor": "sigmoid(f)",
            "times": 40,
            "each": 0.5,
            "whole": 1e-12,
            "norm": 1e-11,
            "largest": 0.1,
        }
        for blame in ("gate", "weights", "factor", "operation")
    ]
    + [{"blame": "operation", "operation": "sigmoid", "times": 1, "each": 1e-9, "whole": 1e-9}],
    "zero-gradient": [
        {"kind": kind, "operation": "clamp", "node": "ClampBackward1"}
        for kind in ("saturated", "factor", "flat", "constant", "even", "died")
    ],
}
CUT = {"loss": "loss", "raised": True, "hidden_by": "loss.requires_grad = True"}


@pytest.mark.parametrize("slug", diagnoses.slugs())
def test_it_speaks_with_whatever_the_lead_knows(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "self.net(x).detach()"
    known = [
        Lead(slug, at(3), "error", code, "detach", names, inert=inert, term="mmd", details={**CUT, **details})
        for details in FULL.get(slug, [{}])
        for names in (["net.0.weight"], ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"])
        for inert in (False, True)
    ]
    given = [Lead(slug, None), Lead(slug, None, inert=True), *known]
    monkeypatch.setattr(module_of(slug), "leads", lambda recording, cause: given if cause == slug else [])
    for lead, said in zip(given, module_of(slug).find(Recording()), strict=True):
        assert (said.cause, said.severity, said.location, said.affected) == (slug, "error", lead.location, lead.affected)
        for text in (said.title, said.explanation, said.fix):
            assert text and text == text.strip() and "  " not in text and ".." not in text and "``" not in text
            assert "None" not in text.replace("`None`", "").replace("returns None", "")
            assert text.count("`") % 2 == 0


def test_explain_without_a_name_lists_all() -> None:
    lines = gradnb.explain().splitlines()
    for slug in diagnoses.slugs():
        assert any(line.split()[:1] == [slug] and diagnoses.summary(slug) in line for line in lines)


@pytest.mark.parametrize(
    ("given", "near"),
    [("detatch", "'detach'"), ("no_grad", "'no-grad'"), ("zero-grad", "'zero-gradient'")],
)
def test_an_unknown_name_is_answered_with_the_near_ones(given: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        gradnb.explain(given)
    message = str(caught.value)
    assert repr(given) in message and "Did you mean" in message and near in message and "checkpoint-reentrant" in message


def test_a_name_like_no_other_is_answered_with_the_list() -> None:
    with pytest.raises(UsageError, match="no cause is called 'xyzzy'. Known causes: autocast, "):
        gradnb.explain("xyzzy")


def at(line: int) -> Location:
    return Location(cell=None, file="train.py", line=line, function="step", code="", filename="train.py")


def finding(cause: str, severity: str, line: int, rank: float = 0.0, affected: tuple[str, ...] = ()) -> Finding:
    return Finding(cause, severity, "title", "explanation", "fix", at(line), affected=list(affected), rank=rank)


def only(monkeypatch: pytest.MonkeyPatch, said: dict[str, list[Finding]]) -> None:
    """Lets each diagnosis say what ``said`` has for it."""
    for slug in diagnoses.slugs():
        own = said.get(slug, [])
        monkeypatch.setattr(module_of(slug), "find", lambda recording, own=own: iter(own))


def test_the_worst_comes_first_and_the_root_before_its_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = [("info", 9), ("error", 1), ("warning", 0), ("error", 2)]
    only(monkeypatch, {"detach": [finding("detach", severity, line, rank) for line, (severity, rank) in enumerate(ranks, 1)]})
    assert [f.location.line for f in diagnoses.diagnose(Recording()) if f.location] == [4, 2, 3, 1]


def test_one_place_and_cause_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    again = finding("detach", "error", 5, 1, ("b", "c"))
    again.related.append(Related(at(9), "here too"))
    only(monkeypatch, {"detach": [finding("detach", "error", 5, 2, ("a", "b")), again], "item": [finding("item", "error", 5)]})
    first, second = diagnoses.diagnose(Recording())
    assert (first.cause, first.affected, first.related) == ("detach", ["a", "b", "c"], [Related(at(9), "here too")])
    assert second.cause == "item"


def test_a_crashing_diagnosis_is_survived_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, {"item": [finding("item", "error", 1)]})

    def crash(recording):
        yield finding("detach", "error", 2)
        raise KeyError("lost")

    monkeypatch.setattr(module_of("detach"), "find", crash)
    recording = Recording()
    assert {f.cause for f in diagnoses.diagnose(recording)} == {"item", "detach"}
    (note,) = recording.notes
    assert "detach" in note and "KeyError: 'lost'" in note
