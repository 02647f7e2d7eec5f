"""A copy of the process, forked before the cell runs, from which the cell can be run again as often as there are repairs to try.

The spare waits at a pipe. Asked with claims, it forks a child for each run and judges what the children tell. It is nobody's
child itself, so that user code that waits for its own children never waits for it; it ends when the pipe does.
"""

from __future__ import annotations

import importlib
import os
import pickle
import random
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from . import sandbox
from .claim import Attempt, Claim
from .facts import Facts
from .judge import Proof, judge
from .rerun import Cell, control, repaired

Work = Callable[[Callable[[Facts], None]], None]

_HEAD = struct.Struct("!Q")
_LATE = 5.0  # seconds that the spare has for itself


def why_not() -> str:
    """Why no copy of this process could run the cell again; empty where one can."""
    if not hasattr(os, "fork"):
        return "a proof needs fork, which this system has not got"
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        return "a proof needs fork, which does not go together with Apple's MPS device"
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return "a proof needs fork, and CUDA is initialised: restart the kernel, and let this cell be the first that uses the GPU"
    xpu: Any = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available() and xpu.is_initialized():
        return "a proof needs fork, and the XPU is initialised: restart the kernel, and let this cell be the first that uses it"
    return ""


class Spare:
    """Made before the cell runs. ``prove`` may be called once; ``dismiss`` at any time, and more than once."""

    def __init__(self, cell: Cell, shell: Any = None):
        asked, self._ask = os.pipe()
        self._answers, answered = os.pipe()
        middle = _fork()
        if middle == 0:
            try:
                if _fork() == 0:  # the one in the middle ends at once, and the spare belongs to nobody
                    os.close(self._ask)
                    os.close(self._answers)
                    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent, which then lets go of the pipe
                    sandbox.own_files({asked, answered})
                    _serve(cell, shell, asked, answered)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answered)
        with suppress(ChildProcessError):  # the user's code reaps children itself
            os.waitpid(middle, 0)

    def prove(self, claims: list[Claim], raised: str | None, limit: float, total: float) -> Iterator[tuple[int, Proof]]:
        """The proofs as they come. ``raised`` is the type of what the cell raised; one run of it gets ``limit`` seconds, all ``total``."""
        try:
            _send(self._ask, (claims, raised, limit, total))
        except BrokenPipeError:  # somebody ended it
            return
        end = time.monotonic() + total + _LATE
        for _ in claims:
            answer = _receive(self._answers, end)
            if answer is None:
                return
            yield answer

    def dismiss(self) -> None:
        """Let go of the spare, which ends it and whatever it is running."""
        ask, self._ask = self._ask, -1
        if ask >= 0:
            os.close(ask)
            os.close(self._answers)


def _serve(cell: Cell, shell: Any, asked: int, answered: int) -> None:
    """In the spare: wait for the claims, and try them one after the other."""
    request = _receive(asked, None)
    if request is None:
        return
    claims, raised, limit, total = request
    sandbox.close_doors(shell)
    end = time.monotonic() + total
    with suppress(Exception):
        importlib.import_module("torch._dynamo")  # every optimizer step asks for it: once here is cheaper than once in each child

    def run(work: Work) -> Facts:
        left = min(limit, end - time.monotonic())
        return _in_child(work, left, asked) if left > 0.5 else Facts(problem="there was no time left")

    plain = run(lambda tell: control(cell, claims, tell))
    plain.problem = plain.problem or _other_end(plain, raised)
    for number, claim in enumerate(claims):
        _send(answered, (number, judge(claim, number, plain, partial(_attempt, run, cell, claim))))


def _attempt(run: Callable[[Work], Facts], cell: Cell, claim: Claim, attempt: Attempt) -> Facts:
    return run(lambda tell: repaired(cell, claim, attempt, tell))


def _other_end(plain: Facts, raised: str | None) -> str:
    """Did the run without a repair end in an error that the user has not seen."""
    if plain.raised is None or plain.raised[0] == raised:
        return ""
    if "autograd's threading" in plain.raised[1]:
        return "because a backward() ran before it on a machine with a GPU: restart the kernel, and let this cell be the first"
    if plain.refused:
        return f"because it {plain.refused}, which is not done a second time"
    return f"it ends in {plain.raised[0]}: {' '.join(plain.raised[1].split())[:120]}"


def _in_child(work: Work, limit: float, asked: int) -> Facts:
    """Run it in a child of its own and hand back what it tells."""
    told, tell = os.pipe()
    parent = os.getpid()
    pid = _fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)  # workers that the cell starts go with it
            sandbox.die_with_parent(parent)
            sandbox.own_files({tell})
            sandbox.settle(limit + _LATE)
            work(lambda facts: _leave(tell, facts))
        except BaseException as error:
            _leave(tell, Facts(problem=f"{type(error).__name__}: {error}"[:300]))
        finally:
            os._exit(0)
    os.close(tell)
    end = time.monotonic() + limit
    facts = _receive(told, end, asked)
    late = time.monotonic() >= end
    os.close(told)
    _end(pid)
    if facts is not None:
        return facts
    return Facts(problem="it took too long" if late else "it ended without a word")


def _leave(tell: int, facts: Facts) -> None:
    _send(tell, facts)
    os._exit(0)


def _fork() -> int:
    """Fork, with Python's random numbers going on in the child as they would have here: Python itself seeds them anew."""
    state = random.getstate()
    if sys.version_info >= (3, 12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # "multi-threaded, may deadlock": that is what the time limit is for
            pid = os.fork()
    else:
        pid = os.fork()
    if pid == 0:
        random.setstate(state)
    return pid


def _end(pid: int) -> None:
    """Kill a child and its process group."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _send(number: int, what: Any) -> None:
    data = pickle.dumps(what)
    data = _HEAD.pack(len(data)) + data
    while data:
        data = data[os.write(number, data) :]


def _receive(number: int, end: float | None, other: int | None = None) -> Any:
    """The next message; None at the end of the pipe or of the time. Where ``other`` ends, nobody waits any more, and so do we."""
    head = _read(number, _HEAD.size, end, other)
    data = _read(number, _HEAD.unpack(head)[0], end, other) if head is not None else None
    return pickle.loads(data) if data is not None else None


def _read(number: int, size: int, end: float | None, other: int | None) -> bytes | None:
    waiting = select.poll()
    for one in (number,) if other is None else (number, other):
        waiting.register(one, select.POLLIN | select.POLLHUP)
    data = b""
    while len(data) < size:
        left = None if end is None else 1000 * (end - time.monotonic())
        if left is not None and left <= 0:
            return None
        ready = [one for one, _ in waiting.poll(left)]
        if other in ready:
            os._exit(0)  # its children have asked the kernel to go with it
        part = os.read(number, size - len(data)) if ready else b""
        if not part:
            return None
        data += part
    return data
