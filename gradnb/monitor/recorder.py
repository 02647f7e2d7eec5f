"""When to measure, and what belongs together: backward passes and steps become rounds.

Gradients are read where a backward pass ends, which is before any clipping, and again at the step only where something wrote to them
in between. Of several backward passes before a step (accumulation) only the last is read: how many there are is known from the round
before.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from .gradients import Gradients
from .layers import Watched, held
from .measure import nonzero, read
from .round import Round
from .scaler import Scaling, any_in_use, writes_of_unscaling
from .weights import Weights

_LOOK = 50  # so many recorded steps until zeros are counted again, and the models looked through for modules that are new


class Recorder:
    """``dear(n)`` says whether the n-th recorded round measures weights and updates, too; ``refresh(all, step)`` takes up new parameters;
    ``finish(round)`` gets each round when its optimizers have stepped (again, when one that was not known yet joins it)."""

    def __init__(
        self,
        watched: Watched,
        optimizers: Sequence[Optimizer],
        scaling: Scaling,
        every: int,
        dear: Callable[[int], bool],
        refresh: Callable[[bool, int], None],
        finish: Callable[[Round], None],
        skipped: Callable[[int], None],
    ):
        self._watched, self._scaling, self._every, self._dear = watched, scaling, every, dear
        self._refresh, self._finish, self._skipped = refresh, finish, skipped
        self.step = 0
        """The number of the newest round of steps."""
        self.start = 0
        """The last step of the process that this one goes on from."""
        self.pending = False
        """Whether a backward pass has ended since the last step."""
        self._round: Round | None = None
        self._known: dict[int, weakref.ref[Optimizer]] = {}
        self._places: dict[int, tuple[weakref.ref[Optimizer], int, list[int]]] = {}
        self._seen: set[int] = set()
        self._held: set[int] = set()
        self._backwards = 0
        self._expected: dict[int, int] = {}
        self._last = 0
        self._gradients = Gradients(watched, scaling)
        self._closure = False
        self._weights: weakref.WeakKeyDictionary[Optimizer, Weights] = weakref.WeakKeyDictionary()
        self._moving: Weights | None = None
        self._hand: tuple[int, weakref.ref[Tensor], int, int] | None = None
        self._scaler_elsewhere: bool | None = None
        for optimizer in optimizers:
            self._meet(optimizer)

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that were given or have stepped, and still exist."""
        return [optimizer for ref in self._known.values() if (optimizer := ref()) is not None]

    def forget(self) -> None:
        """Other parameters are watched now: look through the optimizers again."""
        self._places.clear()
        for optimizer in self.optimizers:
            self._meet(optimizer)

    def resume(self, step: int) -> None:
        """Count on behind this step: what comes next is another round."""
        self._round, self._backwards, self.pending = None, 0, False
        self._gradients.clear()
        self._weights.clear()
        self.step = self.start = step

    def close(self) -> None:
        """No more steps will come: a round that still waits for an optimizer is over."""
        if not self._known and self._gradients.known:
            self._step_by_hand()
        elif self._round is not None:
            self._finish_rest(self._round)
        self._weights.clear()

    # hooks

    def backward(self, fired: set[int]) -> None:
        """A backward pass has ended, and every gradient is in its place."""
        self._see_skipped()
        if not self._known and fired:
            self._look_for_hand_step(min(fired))
        self._backwards += 1
        self.pending = True
        if not self._samples(self._next()):
            return
        self._gradients.ended(measure=self._backwards >= self._expected.get(self._last, 1))

    def before_step(self, optimizer: Optimizer, closure: bool) -> None:
        places = self._meet(optimizer)
        if not places:
            return
        self._see_skipped()
        self._scaling.look(sys._getframe(2))
        self._closure = closure
        round = self._round
        if round is None or id(optimizer) in round.stepped or self._replaces(optimizer, places, round):
            round = self._next_round()
        self._seen.add(id(optimizer))
        if not round.sampled:
            return
        self._refresh(self._nth(round.step) % _LOOK == 0, round.step)
        places = self._meet(optimizer)
        if round.dear and (parameters := self._parameters(places)):
            self._moving = self._weights.setdefault(optimizer, Weights())
            round.weights.append((places, self._moving.before(parameters)))
            self._read_loose_weights(round)
        if not closure:
            self._read_step(optimizer, places, round)

    def after_step(self, optimizer: Optimizer) -> None:
        places, round = self._meet(optimizer), self._round
        if not places or round is None:
            return
        if round.sampled and self._closure:
            self._read_step(optimizer, places, round)
        if round.dear and self._moving is not None:
            again = self._samples(round.step + 1) and self._dear(self._nth(round.step + 1))
            round.moves.append((places, self._moving.after(self._parameters(places), again)))
        self._moving, self._closure = None, False
        round.stepped.add(id(optimizer))
        if not self._complete():
            self._gradients.stepped(places)
        self._scaling.stepped(optimizer)
        self._expected[self._last] = max(1, self._backwards)
        self._last, self._backwards, self.pending, self._hand = id(optimizer), 0, False, None
        if self._complete():
            self._gradients.clear()
            round.told = len(round.parts)
            self._finish(round)

    # rounds

    def _next_round(self) -> Round:
        if self._round is not None:
            self._finish_rest(self._round)  # an optimizer of its has ceased to step
        self.step += 1
        sampled = self._samples(self.step)
        self._round = Round(self.step, sampled, sampled and self._dear(self._nth(self.step)))
        return self._round

    def _finish_rest(self, round: Round) -> None:
        if len(round.parts) > round.told:
            round.told = len(round.parts)
            self._finish(round)

    def _replaces(self, optimizer: Optimizer, places: list[int], round: Round) -> bool:
        """Whether it is new and holds what another one of this round has moved already: then it does not join the round."""
        if id(optimizer) in self._seen:
            return False
        moved = {at for key in round.stepped if key in self._places for at in self._places[key][2]}
        return not moved.isdisjoint(places)

    def _complete(self) -> bool:
        if self._round is None:
            return True
        return all(key in self._round.stepped for key, ref in self._known.items() if ref() is not None)

    def _samples(self, step: int) -> bool:
        return (step - 1) % self._every == 0

    def _nth(self, step: int) -> int:
        return (step - 1) // self._every + 1

    def _next(self) -> int:
        """The number of the round that the next step belongs to."""
        return self.step + 1 if self._complete() else self.step

    def _meet(self, optimizer: Optimizer) -> list[int]:
        """The positions of the watched parameters that it holds; none for an optimizer of somebody else's."""
        size = sum(len(group["params"]) for group in optimizer.param_groups)
        seen = self._places.get(id(optimizer))
        if seen is not None and seen[0]() is optimizer and seen[1] == size:
            return seen[2]
        if seen is not None:
            self._refresh(True, self._next())  # it got another group
        places = sorted({at for parameter in held(optimizer) if (at := self._watched.position(parameter)) is not None})
        self._places[id(optimizer)] = weakref.ref(optimizer), size, places
        if places:
            if id(optimizer) not in self._known or self._known[id(optimizer)]() is not optimizer:
                self._seen.discard(id(optimizer))  # the id of one that has gone
            self._known[id(optimizer)] = weakref.ref(optimizer)
            self._held.update(places)
            self._watched.hold(places)
        return places

    # reading

    def _parameters(self, places: list[int]) -> list[Tensor]:
        return [parameter for at in places if (parameter := self._watched.parameters[at]()) is not None]

    def _read_step(self, optimizer: Optimizer, places: list[int], round: Round) -> None:
        """The gradients that this step moves its parameters by; and, once a round, those that no optimizer holds."""
        for part in round.parts:
            part.taken.update(part.loose.intersection(places))
        amp = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales inside its kernel
        scaled = amp is not None or self._scaling.unscaled(optimizer)
        part, tensors = self._gradients.part(places, amp, scaled, writes_of_unscaling() if scaled and amp is None else 0)
        if not round.parts and len(self._held) < len(self._watched.parameters):
            loose = [at for at in range(len(self._watched.parameters)) if at not in self._held]
            other, _ = self._gradients.part(loose, self._scaling.scale() if scaled else None, scaled)
            other.loose, other.missing = set(other.places), []
            round.parts.append(other)
        round.parts.append(part)
        self._note_numbers(optimizer, round)
        if round.dear and tensors and (self._nth(round.step) <= 3 or self._nth(round.step) % _LOOK == 0):
            round.zeros.append((part.places, [tensor.numel() for tensor in tensors], nonzero(tensors)))

    def _read_loose_weights(self, round: Round) -> None:
        """The weights that no known optimizer holds: whether somebody else moves them, or nobody."""
        if self.step == self.start + 1 or len(round.weights) > 1 or len(self._held) == len(self._watched.parameters):
            return  # in the first round another optimizer may still show up
        loose = [at for at, parameter in enumerate(self._watched.parameters) if at not in self._held and parameter() is not None]
        tensors = self._parameters(loose)
        if tensors:
            weights = read(tensors)
            weights.settle(tensors)
            round.weights.append((loose, weights))

    def _note_numbers(self, optimizer: Optimizer, round: Round) -> None:
        first = 0
        for known in self.optimizers:
            if known is optimizer:
                break
            first += len(known.param_groups)
        found: dict[str, Any] = {}
        for index, group in enumerate(optimizer.param_groups, first):
            found["lr" if index == 0 else f"lr.{index}"] = group.get("lr")
        found["scale"] = self._scaling.scale()
        found["found_inf"] = getattr(optimizer, "found_inf", None)
        for name, value in found.items():
            if isinstance(value, Tensor):
                round.numbers[name] = read([], [value.reshape(())])
            elif value is not None:
                round.numbers[name] = float(value)

    # steps that were left out, steps without an optimizer

    def _see_skipped(self) -> None:
        if self._scaling.skipped(set(self._known)):
            self._gradients.clear()
            self._backwards, self.pending = 0, False
            self._skipped(self.step + 1)

    def _look_for_hand_step(self, at: int) -> None:
        """No optimizer has ever stepped. Was the last gradient used and cleared before this backward pass?"""
        parameter = self._watched.parameters[at]()
        grad = parameter.grad if parameter is not None else None
        if parameter is None or grad is None:
            return
        old, self._hand = self._hand, (at, weakref.ref(grad), grad._version, parameter._version)
        if old is None or old[0] != at:
            return
        accumulated = old[1]() is grad and old[2] + 1 == grad._version
        if old[3] != parameter._version or not accumulated:
            if self._scaler_elsewhere is None:
                self._scaler_elsewhere = any_in_use()
            if not self._scaler_elsewhere:  # else it has left its first steps out, most likely
                self._step_by_hand()
            self._gradients.clear()
            self._backwards = 0

    def _step_by_hand(self) -> None:
        round = self._next_round()
        if round.sampled and self._gradients.known:
            round.parts.append(self._gradients.whole())
        round.told = len(round.parts)
        self._finish(round)
