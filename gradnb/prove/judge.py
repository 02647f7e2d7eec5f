"""Is a claim proven: compares the run without a repair with the runs that had one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .claim import WIRING, Attempt, Claim, Kind
from .facts import Facts, Fed, Rival, known_as

_OFTEN_MEANT = {"detach", "data", "no-grad"}

Run = Callable[[Attempt], Facts]


@dataclass(frozen=True, slots=True)
class Proof:
    """``proven`` is True, False (the repair does not help), or None (it could not be tried). ``text`` says so in a line."""

    proven: bool | None
    text: str

    def to_dict(self) -> dict:
        return {"proven": self.proven, "text": self.text}


def judge(claim: Claim, number: int, plain: Facts, run: Run) -> Proof:
    """Try the repairs of a claim until one works. ``plain`` is the run without any, in which the claim has the given number."""
    if plain.problem:
        return Proof(None, f"not proven: the cell could not be run again, {plain.problem}")
    sated = _sated(claim, plain)
    if sated:
        return Proof(None, f"not proven: when the cell runs again as it is, {sated}")
    worst = Proof(None, "not proven: there is no repair that could be tried here")
    for attempt in claim.attempts():
        if not _fits(claim, attempt, plain, number):
            continue
        proof = _try(claim, number, attempt, plain, run)
        if proof.proven:
            return proof
        if worst.proven is None:
            worst = proof
    return worst


def _fits(claim: Claim, attempt: Attempt, plain: Facts, number: int) -> bool:
    """Some repairs say something only where the run without them showed that the line loses something in that way."""
    zeros = plain.zeros[number]
    if Kind.FLAT in attempt.own:
        return bool(zeros & {"zero", "factor"})
    if Kind.CANCELLED in attempt.own:
        return "cancelled" in zeros
    if Kind.APPLIED in attempt.own:
        return Rival(claim.cause, claim.location.filename, claim.location.line) in plain.rivals[number]
    return True


def _try(claim: Claim, number: int, attempt: Attempt, plain: Facts, run: Run) -> Proof:
    facts = run(attempt)
    line = f"line {claim.location.line}"
    fed = _fed(claim, facts)
    if not any(facts.hits.get(kind) for kind in attempt.own):
        return Proof(None, _nothing(claim, facts, line))
    if not _good(claim, number, plain, facts):
        return _failed(claim, facts, fed, line)
    rival = _rival(claim, number, plain)
    if rival:
        return Proof(
            None, f"not proven: with {line} repaired {_they(fed)} a gradient, but {rival}: which of the two is at fault stays open"
        )
    if attempt.without:
        alone = run(Attempt(attempt.own, attempt.without))
        if alone.problem or _good(claim, number, plain, alone):
            return Proof(False, f"not proven: the gradient comes back without a repair of {line} as well")
        others = " and ".join(f"line {spot.line}" for spot in attempt.without)
        return Proof(True, f"proven: with {line} and {others} repaired, {_told(claim, facts, fed)}; with {others} alone nothing comes back")
    return Proof(True, f"proven: with this line repaired, {_told(claim, facts, fed)}")


def _fed(claim: Claim, facts: Facts) -> dict[str, Fed]:
    """What became of the parameters that the claim is about."""
    found = {name: _of(facts, name) for name in claim.affected}
    if facts.witnesses and _wired(claim):
        return {f"tensor {i}": fed for i, fed in enumerate(facts.witnesses)}
    if not found and facts.raised is None:
        return {name: fed for name, fed in facts.parameters.items() if fed.state != "none"}
    return found


def _of(facts: Facts, name: str) -> Fed:
    return facts.parameters.get(known_as(name, facts.parameters) or "", Fed())


def _wired(claim: Claim) -> bool:
    return claim.cause in {kind.value for kind in WIRING}


def _sated(claim: Claim, plain: Facts) -> str:
    """What speaks against the claim already in the run without a repair."""
    if claim.inert or not claim.affected:
        return ""
    fed = [_of(plain, name) for name in claim.affected]
    if claim.cause == "not-in-optimizer":
        return "they take part in the last step" if all(one.held for one in fed) else ""
    if _wired(claim):
        return "an optimizer moves them" if all(one.held and one.moved for one in fed) else ""
    return "they get a gradient" if any(one.state == "ok" for one in fed) else ""


def _good(claim: Claim, number: int, plain: Facts, facts: Facts) -> bool:
    """Did the repair bring what the finding says is missing."""
    if claim.inert:
        return not facts.problem and _term_lives(claim, number, plain, facts)
    fed = _fed(claim, facts)
    if not fed or facts.problem:
        return False
    if _wired(claim):
        return len(fed) >= len(claim.affected) and all(one.state == "ok" and one.held and one.moved for one in fed.values())
    if not claim.affected and (plain.raised is None or facts.raised is not None and plain.raised[0] == facts.raised[0]):
        return False  # the error that the finding explains has to go
    if any(one.state in ("none", "nan", "inf") for one in fed.values()):
        return False
    # an exact zero has good reasons of its own (a bias before a difference), as long as most are fed
    zeros = sum(one.state == "zero" for one in fed.values())
    return zeros == 0 if claim.cause == "zero-gradient" else 2 * zeros < len(fed)


def _term_lives(claim: Claim, number: int, plain: Facts, facts: Facts) -> bool:
    """The term requires grad where it is added to the loss, and a gradient comes back through the repaired value."""
    if claim.term is None:
        return plain.kills[number] and 0.0 < facts.came_back < math.inf
    place = (claim.term.filename, claim.term.line)
    pairs = zip(plain.terms.get(place, ()), facts.terms.get(place, ()))
    awake = any(not before and now for old, new in pairs for before, now in zip(old, new))
    # a region with gradients on has no value of its own through which the gradient could be seen to come
    return awake and (0.0 < facts.came_back < math.inf or facts.hits.get(Kind.NO_GRAD, 0) > 0)


def _rival(claim: Claim, number: int, plain: Facts) -> str:
    """Another cause on a way beside, that the same parameters suffer from.

    A detach or no_grad is often meant, a number or an ignored gradient never: so the one gives way to the other.
    """
    if claim.cause == "zero-gradient" or _wired(claim):
        return ""
    here = {place.line for place in (claim.location, *claim.same, *claim.series)}
    for rival in plain.rivals[number] if number < len(plain.rivals) else ():
        gives_way = rival.cause in _OFTEN_MEANT and claim.cause not in _OFTEN_MEANT
        if rival.cause != claim.cause and not gives_way and not (rival.filename == claim.location.filename and rival.line in here):
            return f"line {rival.line} cuts another way to them ({rival.cause})"
    return ""


def _nothing(claim: Claim, facts: Facts, line: str) -> str:
    if facts.problem:
        return f"not proven: with {line} repaired, the cell could not be run: {facts.problem}"
    if facts.refused:
        return f"not proven: the cell {facts.refused}, which is not done a second time for a proof"
    return f"not proven: nothing on {line} could be repaired when the cell ran again"


def _failed(claim: Claim, facts: Facts, fed: dict[str, Fed], line: str) -> Proof:
    if facts.problem:
        return Proof(None, f"not proven: with {line} repaired, the cell could not be run to its end: {facts.problem}")
    if facts.refused:
        return Proof(None, f"not proven: the cell {facts.refused}, which is not done a second time for a proof")
    if facts.raised is not None and not facts.steps:
        kind, message = facts.raised
        said = " ".join(message.split())[:120]
        return Proof(None, f"not proven: with {line} repaired, the cell does not get to a step any more: {kind}: {said}")
    if claim.inert:
        return Proof(False, f"not proven: with {line} repaired, the term still carries no gradient")
    bad = [one for one in fed.values() if one.state != "ok"]
    if _wired(claim) and not bad:
        return Proof(False, f"not proven: with {line} repaired, no optimizer moves them")
    what = "a gradient that is not finite" if any(one.state in ("nan", "inf") for one in bad) else "no gradient"
    many = f"{len(bad)} of {len(fed)} parameters" if len(fed) > 1 else "the parameter"
    return Proof(False, f"not proven: with {line} repaired, {many} still {'get' if len(bad) > 1 else 'gets'} {what}")


def _they(fed: dict[str, Fed]) -> str:
    many = len(fed)
    return f"all {many} parameters receive" if many > 2 else "both parameters receive" if many == 2 else "the parameter receives"


def _told(claim: Claim, facts: Facts, fed: dict[str, Fed]) -> str:
    if claim.inert:
        return "the term carries a gradient" + (f" (size {facts.came_back:.2g})" if facts.came_back else "")
    norm = math.sqrt(sum((one.norm or 0.0) ** 2 for one in fed.values()))
    zeros = sum(one.state == "zero" for one in fed.values())
    rest = f", {zeros} of them exactly zero" if zeros else ""
    moved = ", and the optimizer moves " + ("them" if len(fed) > 1 else "it") if _wired(claim) else ""
    return f"{_they(fed)} a gradient (norm {norm:.2g}{rest}){moved}"
