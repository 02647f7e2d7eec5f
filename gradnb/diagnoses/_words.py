"""Words that several diagnoses share: names, quotations, and what a cut means for the training."""

from __future__ import annotations

import re

from ..flow.lead import Lead
from ..report.finding import Finding, Related

WIDTH = 70


def quote(text: str) -> str:
    """``text`` on one line in backticks, without a comment behind it, shortened where it is long."""
    line = " ".join(re.sub(r"  #.*$", "", text).split())
    return f"`{line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}`"


def subject(lead: Lead, fallback: str) -> str:
    """The user's expression at the place of the lead, quoted; ``fallback`` (already in words) where none is known."""
    return quote(lead.expression) if lead.expression.strip() else fallback


def place(lead: Lead) -> str:
    """`` in `forward` `` for code inside a function, nothing for code at the top level."""
    function = lead.location.function if lead.location else ""
    return f" in `{function}`" if function and not function.startswith("<") else ""


def names(parameters: list[str], most: int = 2) -> str:
    """The parameters as a phrase: all of them while they are few, else the first ones and how many more."""
    quoted = [f"`{name}`" for name in parameters]
    if not quoted:
        return "the parameters behind it"
    if len(quoted) > most + 1:
        rest = len(quoted) - most
        return f"{', '.join(quoted[:most])} and {rest} more parameters"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def crowd(parameters: list[str]) -> str:
    """The parameters counted, by the module that they share where there is one: "4 parameters of `encoder`"."""
    if len(parameters) == 1:
        return f"`{parameters[0]}`"
    if not parameters:
        return "the parameters behind it"
    shared = parameters[0].split(".")[:-1]
    for name in parameters[1:]:
        parts = name.split(".")[:-1]
        while shared and parts[: len(shared)] != shared:
            shared.pop()
    return f"{len(parameters)} parameters" + (f" of `{'.'.join(shared)}`" if shared else "")


def verb(parameters: list[str], one: str, many: str) -> str:
    """The form of a verb that agrees with the parameters."""
    return one if len(parameters) == 1 else many


def loss(lead: Lead) -> str:
    """The loss by the user's name for it."""
    name = str(lead.details.get("loss") or "").strip()
    return quote(name) if name else "the loss"


def optimizer(lead: Lead) -> str:
    """The optimizer concerned by the user's name for it."""
    label = str(lead.details.get("optimizer") or "").strip()
    return quote(label) if label else "the optimizer"


def variable(lead: Lead) -> str:
    """The user's variable that holds the optimizer, for code in a fix; "optimizer" where only its class is known."""
    name = str(lead.details.get("optimizer") or "").split(" ")[0]
    return "optimizer" if not name or name[:1].isupper() else name


def cut_title(lead: Lead, what: str) -> str:
    """``what`` stands first; then what it cuts off, or which term of the loss it makes constant."""
    if lead.inert:
        term = f"the term {quote(lead.term)}" if lead.term else "a term"
        return f"{what} makes {term} of {loss(lead)} constant for autograd"
    return f"{what} cuts {crowd(lead.affected)} off from {loss(lead)}"


def consequence(lead: Lead) -> str:
    """What the cut means for the training, in a sentence or two."""
    details = lead.details
    if lead.inert:
        term = f"The term {quote(lead.term)}" if lead.term else "That term"
        said = f"{term} counts in the value of {loss(lead)}, but it moves no weight: the parameters learn from the other terms only."
    else:
        get = verb(lead.affected, "gets", "get")
        said = f"{sentence(names(lead.affected))} {get} no gradient from {loss(lead)}"
        if details.get("raised"):
            said += ": nothing is left in it to differentiate, and the backward pass raises far from here."
        else:
            said += f", so the optimizer skips {verb(lead.affected, 'it', 'them')} without a word."
    hidden = details.get("hidden_by")
    if hidden:
        said += f" {quote(str(hidden))} makes the error go away, not the cut: it turns the loss into a new leaf that nothing hangs on."
    return said


def after(lead: Lead) -> str:
    """The last sentence of a fix: a workaround that is not needed any more."""
    hidden = lead.details.get("hidden_by")
    return f" Then remove {quote(str(hidden))}." if hidden else ""


def sentence(text: str) -> str:
    """``text`` with a capital letter in front; quoted code stays as it is."""
    return text[:1].upper() + text[1:]


def build(lead: Lead, title: str, explanation: str, fix: str) -> Finding:
    """The finding that says this lead."""
    return Finding(
        cause=lead.cause,
        severity=lead.severity,
        title=title,
        explanation=explanation,
        fix=fix,
        location=lead.location,
        related=[Related(location, note) for location, note in lead.related],
        affected=list(lead.affected),
        path=list(lead.path),
        rank=lead.rank,
    )
