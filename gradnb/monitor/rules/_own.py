"""A rule of the user's own, in one line: ``monitor.rule("hot", when="loss > 10 for 20", text="the loss is above 10")``."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

from ...errors import UsageError
from ..flags import SEVERITIES, Rule, Sign, own_rule
from ..view import View
from ._numbers import number

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FORM = re.compile(
    r"\s*(?P<name>[^<>=!\s][^<>=!]*?)\s*(?P<how><=|>=|==|!=|<|>)\s*(?P<limit>[-+]?[\d.]\S*|[-+]?(?:inf|nan))\s*(?:for\s+(?P<many>\d+))?\s*",
    re.IGNORECASE,
)
_HELP = (
    'a condition on a series, as in "loss > 10" or "reward < 0 for 100" (the newest 100 values), or a function of the view, '
    'as in lambda view: view.value("loss") > 10'
)


def own(name: str, when: Any, text: str = "", severity: str = "warning", advice: str = "") -> Rule:
    """The rule that ``monitor.rule`` adds. ``when`` is {help}.

    A function gives True or False, a sentence, or a Sign; while a series it asks for has no value yet, its error counts as False. Raises
    UsageError for another severity than "error", "warning" and "info", and for a condition that cannot be read.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"a rule needs a name, as in monitor.rule('hot', when='loss > 10'); given: {name!r}")
    if severity not in SEVERITIES:
        raise UsageError(f"severity is one of {', '.join(SEVERITIES)}; given: {severity!r}")
    if isinstance(when, str):
        rule = own_rule(_condition(name, when, text), text or when, name, severity, advice)
        rule.threshold = when
        return rule
    if not callable(when):
        raise UsageError(f"when= is {_HELP}; given: {when!r}")
    try:
        inspect.signature(when).bind(None)
    except TypeError:
        raise UsageError(f"when= is called with one argument, the view; {getattr(when, '__name__', when)!r} does not take one") from None
    except ValueError:
        pass  # a built-in without a signature
    return own_rule(_patient(when), text or f"the rule {name} speaks", name, severity, advice)


if own.__doc__:
    own.__doc__ = own.__doc__.replace("{help}", _HELP)


def _condition(name: str, when: str, text: str) -> Callable[[View], Any]:
    found = _FORM.fullmatch(when)
    try:
        limit = float(found["limit"]) if found else 0.0
    except ValueError:
        found = None
    if found is None:
        raise UsageError(f"when={when!r} cannot be read. It is {_HELP}")
    series, how, many = found["name"], found["how"], int(found["many"] or 1)
    compare = _COMPARE[how]

    def check(view: View) -> Any:
        points = view.series(series, many)
        if not points or len(points) < many or not all(compare(value, limit) for _, value in points):
            return None
        value = points[-1][1]
        said = text or f"`{series}` is {number(value)}, {when.strip()}"
        return Sign(name, [], {series: value, "limit": limit, "values": len(points)}, said, since=points[0][0])

    return check


def _patient(when: Callable[[View], Any]) -> Callable[[View], Any]:
    """``view.value("loss")`` is None before the first log, and None > 10 is an error that means nothing."""
    answered = [False]

    def check(view: View) -> Any:
        try:
            said = when(view)
        except (TypeError, IndexError):
            if not answered[0] and view.count <= 10:
                return None
            raise
        answered[0] = True
        return said

    return check
