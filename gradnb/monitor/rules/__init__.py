"""One file a rule, found by itself: nothing else to touch when one is added.

A rule is a docstring (the sentence that names the fault; What happens; Why it matters; Try; References), the constants SEVERITY
("error", "warning", "info"), THRESHOLD and SOURCE (where the threshold comes from), and ``check(view)``, which yields a ``Sign`` for
each thing that is wrong now. ``gradnb.monitor.view.View`` says what a rule can ask; ``gradnb.monitor.history.COLUMNS`` what the
numbers mean. Besides what the user logged there are the series "global_norm", "clipped_norm" (after clipping, where it was seen),
"lr", "lr.1", ..., "scale", "gate:<name>" and, with ``activations=True``, "dead:<module>" (share of the ReLU's units that were zero
for the whole batch) and "saturated:<module>" (share of the inputs of a tanh or sigmoid that lie where it is flat).
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil

from ...errors import UsageError


def slugs() -> list[str]:
    """The stable names of all rules, in alphabetical order."""
    return sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def summary(slug: str) -> str:
    """The one sentence that says what is wrong."""
    return _text(slug).splitlines()[0]


def explain(slug: str | None = None) -> str:
    """What a rule looks at, why, and what to try; a line for each rule without a name.

    Parameters
    ----------
    slug
        The rule's name, as in ``flag.rule``.

    Returns
    -------
    str
        The text, with severity, threshold and where the threshold comes from.

    Raises
    ------
    UsageError
        For a name that no rule has; near ones are named.
    """
    if slug is None:
        width = max(len(name) for name in slugs())
        lines = [f"{name:<{width}}  {summary(name)}" for name in slugs()]
        return "\n".join(["The rules that the monitor watches by.", "", *lines])
    text = _text(slug)
    module = importlib.import_module(f"{__name__}.{slug.replace('-', '_')}")
    numbers = [f"Severity   {module.SEVERITY}", f"Threshold  {module.THRESHOLD}", f"Source     {module.SOURCE}"]
    return "\n".join([slug, "=" * len(slug), "", text.rstrip(), "", *numbers])


def _text(slug: str) -> str:
    if slug not in slugs():
        near = difflib.get_close_matches(str(slug).lower().replace("_", "-"), slugs(), n=3)
        hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        raise UsageError(f"no rule is called {slug!r}.{hint} Known rules: {', '.join(slugs())}.")
    return inspect.cleandoc(importlib.import_module(f"{__name__}.{slug.replace('-', '_')}").__doc__ or slug)
