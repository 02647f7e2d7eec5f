"""Every public name has a docstring that says what a user needs: parameters, results, units, errors, and where a threshold comes from.

The rule, so that a machine can count it:

- every public name has a text of its own (a field of a dataclass: a string or ``#:`` comment, or a sentence of its class that names it);
- each parameter of a function or constructor of ``__all__`` stands in a section Parameters with a description, and what it gives in a
  section Returns; of methods a parameter may be told in a sentence that names it as a ``literal``; no section names what is not there;
- each error of gradnb's own that the code raises, followed through its calls, is named behind the word "Raises", itself or its base;
- what is annotated as a number says its unit, what takes or gives a tensor its shape;
- tolerances and the thresholds of rules say where they come from.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from public_names import Public, named_in_pages, public, resolve, sections
from raised_errors import bases, raised
from torch import Tensor

import gradnb
from gradnb.diagnoses import explain, slugs
from gradnb.errors import UsageError
from gradnb.monitor import rules

# Words that say what is counted, or what a number without a unit is measured in.
UNITS = (
    r"steps?|seconds?|bytes?|epochs?|batch(es)?|checkpoints?|rows?|points?|elements?|levels?|process(es)?|lines?|boxes|numbers?|"
    r"how (many|often)|times|norms?|cosine|factor|index|version|shape|differences?|part of|from [01]|seed|of the loss|derivative|unit"
)
MADE_BY = {"Monitor": "watch", "Report": "check", "Check": "check"}
"""Classes that gradnb hands out: their constructors are no part of what a user calls."""


def said_of(one: Public, name: str) -> str:
    """What is said of a parameter; "" where it is not named."""
    listed = sections(_constructor_doc(one)).get("Parameters", {})
    for names, text in listed.items():
        if name in [part.strip(" *") for part in names.split(",")]:
            return text
    prose = re.findall(rf"[^.;]*``\*{{0,2}}{name}\b[^.;]*", one.doc)
    return " ".join(prose)


def _constructor_doc(one: Public) -> str:
    return one.doc


def parameters(one: Public) -> dict[str, inspect.Parameter]:
    if one.kind not in ("function", "method", "class") or isinstance(one.thing, type) and not _constructed(one.thing):
        return {}
    found = inspect.signature(one.code).parameters
    return {name: parameter for name, parameter in found.items() if name not in ("self", "cls")}


def _constructed(kind: type) -> bool:
    """Does a user call it: one with a constructor of its own, that no function of gradnb's calls for him."""
    return kind.__name__ not in MADE_BY and "__init__" in vars(kind) and not hasattr(kind, "__dataclass_fields__") and _top(kind)


def _top(thing: Any) -> bool:
    """Is it a name of an ``__all__``."""
    return any(thing is getattr(module, thing.__name__, None) for module in (gradnb, gradnb.checkpoint)) or thing.__name__ == "graph"


def _numeric(hint: Any) -> bool:
    return bool(re.search(r"\b(int|float)\b", str(hint))) and not re.search(r"Callable|Mapping\[|dict\[", str(hint))


def _tensor(hint: Any) -> bool:
    return bool(re.search(r"\bTensor\b", str(hint)))


def told(one: Public) -> Iterator[str]:
    if not one.doc.strip():
        yield "has no docstring"
    elif one.kind != "field" and not re.search(r"[.:?]($|\s)", one.doc):
        yield "says no sentence"


def parameters_told(one: Public) -> Iterator[str]:
    there = parameters(one)
    top = one.kind in ("function", "class") and _top(one.thing)
    listed = sections(one.doc).get("Parameters", {})
    names = [part.strip(" *") for line in listed for part in line.split(",")]
    for name in there:
        if not said_of(one, name).strip() or (top and name not in names):
            yield f"does not describe {name}" + (" in Parameters" if top else "")
    if one.kind != "class" or there:
        yield from (f"describes {name}, which is no parameter" for name in names if name not in there)


def result_told(one: Public) -> Iterator[str]:
    if one.kind == "function" and _gives(one) and not ({"Returns", "Yields"} & set(sections(one.doc))):
        yield "has no section Returns"


def _gives(one: Public) -> bool:
    return str(inspect.signature(one.code).return_annotation) not in ("None", "NoReturn", str(inspect.Signature.empty))


def errors_told(one: Public) -> Iterator[str]:
    if one.kind in ("field", "magic") or isinstance(one.thing, type) and not _constructed(one.thing):
        return
    owner = one.owner or (one.thing if isinstance(one.thing, type) else None)
    text = " ".join(re.findall(r"Raises\b.*", one.doc, re.S))
    for name in sorted(raised(one.code, owner)):
        if not any(re.search(rf"\b{base}\b", text) for base in bases(name)):
            yield f"raises {name} and does not say so"
    for name in re.findall(r"\b[A-Z]\w*Error\b", text):
        if resolve_error(name) is None:
            yield f"names the error {name}, which does not exist"


def resolve_error(name: str) -> Any:
    import builtins

    import gradnb.checkpoint.errors
    import gradnb.errors

    return next((found for place in (builtins, gradnb.errors, gradnb.checkpoint.errors) if (found := getattr(place, name, None))), None)


def units_told(one: Public) -> Iterator[str]:
    for name, parameter in parameters(one).items():
        text = said_of(one, name)
        if _numeric(parameter.annotation) and not re.search(rf"\b({UNITS})\b", text, re.I):
            yield f"gives no unit for {name}: {' '.join(text.split())!r}"
    hint = _hint(one)
    if _numeric(hint) and not re.search(rf"\b({UNITS})\b", one.doc, re.I):
        yield f"is a number without a unit: {one.doc!r}"


def shapes_told(one: Public) -> Iterator[str]:
    for name, parameter in parameters(one).items():
        if _tensor(parameter.annotation) and not re.search(r"shape|scalar|one element|several", said_of(one, name)):
            yield f"gives no shape for {name}"
    if _tensor(_hint(one)) and not re.search(r"shape|scalar", one.doc):
        yield "gives a tensor and does not say its shape"


def _hint(one: Public) -> Any:
    if one.kind == "field":
        owner, _, name = one.name.rpartition(".")
        return next((base.__annotations__[name] for base in one.owner.__mro__ if name in getattr(base, "__annotations__", {})), "")
    if one.kind == "class" or one.kind == "magic":
        return ""
    return inspect.signature(one.code).return_annotation


def tolerances_told(one: Public) -> Iterator[str]:
    if {"eps", "atol", "rtol", "threshold"} & set(parameters(one)) and not ({"References", "Notes"} & set(sections(one.doc))):
        yield "has tolerances and does not say where they come from (References)"


CHECKS = [told, parameters_told, result_told, errors_told, units_told, shapes_told, tolerances_told]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.replace("_", "-"))
def test_every_public_name_says_what_a_user_needs(check: Callable[[Public], Iterator[str]]) -> None:
    missing = [f"{one.name} {said}" for one in public().values() for said in check(one)]
    assert not missing, f"{len(missing)} of {len(public())}:\n" + "\n".join(missing)


def test_the_count_of_public_names(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(one.kind for one in public().values())
    described = sum(bool(one.doc.strip()) for one in public().values())
    with capsys.disabled():
        print(f"\npublic names: {len(public())}, with a docstring: {described} ({', '.join(f'{n} {kind}' for kind, n in counts.items())})")
    assert described == len(public()) >= 380


def test_what_the_pages_name_is_there() -> None:
    assert not {name: page for name, page in named_in_pages().items() if resolve(name) is None}


def test_every_option_of_a_magic_has_its_help() -> None:
    magics = [one for one in public().values() if one.kind == "magic"]
    assert {one.name for one in magics} == {"%%gradcheck", "%gradgraph", "%gradwatch", "%gradckpt", "%gradexplain", "%gradenv"}
    for one in magics:
        for action in getattr(one.thing, "parser", None)._actions if hasattr(one.thing, "parser") else ():
            assert action.help, f"{one.name} {action.dest}"


@pytest.mark.parametrize("slug", rules.slugs())
def test_every_rule_gives_its_threshold_and_where_it_comes_from(slug: str) -> None:
    module = importlib.import_module(f"gradnb.monitor.rules.{slug.replace('-', '_')}")
    assert len(module.THRESHOLD) > 5 and len(module.SOURCE) > 5
    for heading in ("What happens", "Why it matters", "Try", "References"):
        assert heading in rules.explain(slug).splitlines()


@pytest.mark.parametrize("slug", slugs())
def test_every_cause_gives_its_references(slug: str) -> None:
    assert "https://" in explain(slug).split("\nReferences\n")[1].split("\nWrong\n")[0]


def _wrong(steps: int, loss: Tensor, name: str) -> float:
    """Does something with ``loss``.

    Parameters
    ----------
    gone
        No parameter is called so.
    """
    if not name:
        raise UsageError("no name")
    return 0.0


def _right(steps: int, loss: Tensor, name: str) -> float:
    """The norm after so many ``steps`` of ``loss``, a scalar; ``name`` is the layer's. Raises UsageError without a name."""
    if not name:
        raise UsageError("no name")
    return 0.0


def test_the_checks_see_what_is_missing() -> None:
    def said(code: Any) -> list[str]:
        code.__module__ = "gradnb.made_up"  # errors are followed in gradnb's own code only
        return [text for check in CHECKS for text in check(Public("made_up", "method", code))]

    assert said(_wrong) == [
        "does not describe steps",
        "does not describe name",
        "describes gone, which is no parameter",
        "raises UsageError and does not say so",
        "gives no unit for steps: ''",
        "is a number without a unit: " + repr(inspect.cleandoc(_wrong.__doc__ or "")),
        "gives no shape for loss",
    ]
    assert said(_right) == []
