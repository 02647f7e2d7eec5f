"""Runs a program under a time limit and tells what became of it: a crash or a hang of a driver stays in the child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .probe import MARK

# The seam for tests: the script that looks at the devices. Another one may stand in its place that crashes, hangs or babbles.
PROBE = Path(__file__).with_name("probe.py")
OUTPUT = 1_000_000  # bytes read of what a child printed
GRACE = 2.0  # seconds that a killed child is given to go


@dataclass(slots=True)
class Ended:
    """How a child ended. ``code`` is its exit status, negative a signal, None where it ran past the limit or never started."""

    state: str  # "ended" | "timeout" | "not-started"
    code: int | None
    out: str
    err: str
    seconds: float
    left_behind: bool = False  # killed, but the system does not let it die


@dataclass(slots=True)
class Seen:
    """What the probe told. ``state`` is ``ok``, ``crashed``, ``timeout``, ``failed``, ``garbled`` or ``not-started``."""

    state: str
    stage: str = ""  #: what it was doing last
    message: str = ""  #: what the system or the driver said, one line
    signal: str | None = None  #: the name of the signal that ended it
    seconds: float = 0.0  #: how many seconds it took
    left_behind: bool = False  #: it could not be ended, and may still be there
    facts: dict[str, Any] = field(default_factory=dict)  #: what it found besides the devices, by name
    devices: list[dict[str, Any]] = field(default_factory=list)  #: see Environment
    complaints: list[str] = field(default_factory=list)  #: warnings of torch's


def look(limit: float, environment: Mapping[str, str] | None = None) -> Seen:
    """Run the probe, for ``limit`` seconds at the most, with ``environment`` added to the variables of this process."""
    if not sys.executable:
        return Seen("not-started", message="this Python does not know its own executable (an embedded interpreter)")
    # No kernel's folder in front of sys.path (-P): a file of the user's named like a module must not be imported for it.
    command = [sys.executable, "-P", "-X", "faulthandler", str(PROBE), json.dumps([entry for entry in sys.path if isinstance(entry, str)])]
    return _read(run(command, limit, environment), limit)


def run(command: list[str], limit: float, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end or to the limit. Never raises for what the program does."""
    # glibc writes its last words to the terminal unless told otherwise.
    variables = {**os.environ, "LIBC_FATAL_STDERR_": "1", **(environment or {})}
    begun = time.monotonic()
    # Files, not pipes: a grandchild that holds a pipe open would keep the reader waiting for ever.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables, start_new_session=os.name == "posix"
            )
        except (OSError, ValueError) as error:
            return Ended("not-started", None, "", f"{type(error).__name__}: {error}", 0.0)
        state, left_behind = "ended", False
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            state, left_behind = "timeout", not _kill(child)
        except BaseException:  # Ctrl-C in the notebook
            _kill(child)
            raise
        code = None if state == "timeout" else child.returncode
        return Ended(state, code, _text(out), _text(err), time.monotonic() - begun, left_behind)


def _kill(child: subprocess.Popen) -> bool:
    """Kill the child and what it started; False where it does not go (it waits inside the driver)."""
    try:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    except OSError:
        pass  # gone in the meantime
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _text(file: Any) -> str:
    file.seek(0)
    return file.read(OUTPUT).decode("utf-8", "replace")


def _read(ended: Ended, limit: float) -> Seen:
    seen = Seen("ok", seconds=ended.seconds, left_behind=ended.left_behind)
    for line in ended.out.splitlines():
        if line.startswith(MARK):
            _take(seen, line.removeprefix(MARK))
    if ended.state == "not-started":
        seen.state, seen.message = "not-started", ended.err
    elif ended.state == "timeout":
        seen.state, seen.message = "timeout", f"no answer within {limit:g} s"
    elif ended.code is not None and (ended.code < 0 or ended.code >= 0xC0000000):  # a signal; a Windows exception
        seen.state, seen.message = "crashed", _last_words(ended.err)
        seen.signal = _signal(ended.code)
    elif ended.code:
        seen.state, seen.message = "failed", _last_line(ended.err) or f"exit status {ended.code}"
    elif seen.stage != "done":
        seen.state = "garbled"
        seen.message = f"its answer was not understood: {_last_line(ended.out) or 'nothing was printed'}"
    seen.message = " ".join(seen.message.split())[:300]
    return seen


def _take(seen: Seen, text: str) -> None:
    try:
        fact = json.loads(text)
    except ValueError:
        return
    if not isinstance(fact, dict):
        return
    for name, value in fact.items():
        if name == "stage":
            seen.stage = str(value)
        elif name == "device" and isinstance(value, dict):
            seen.devices.append(value)
        elif name == "complaint":
            seen.complaints.append(" ".join(str(value).split()))
        else:
            seen.facts[name] = value


def _signal(code: int) -> str:
    if code > 0:
        return f"exception 0x{code:08X}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def _last_words(text: str) -> str:
    """What was said before Python's fault handler began to speak: the driver's or the C library's own words."""
    return _last_line(text.partition("Fatal Python error")[0])


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
