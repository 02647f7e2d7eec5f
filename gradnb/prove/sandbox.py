"""What a child may do: compute. It writes nothing, shows nothing, asks nothing and reaches nobody.

A child begins with its parent's memory and its parent's open files. What would touch them, or the notebook, is cut off first.
"""

from __future__ import annotations

import builtins
import ctypes
import getpass
import io
import os
import signal
import stat
import sys
import tempfile
from typing import Any

import torch

_own: list[str] = []  # folders and files that the child made with tempfile
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn")
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.utime",
    "shutil.rmtree",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(PermissionError):
    """The child was about to change something outside of itself; the message says what, as in "writes 'log.txt'"."""


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends; where it cannot be asked, an alarm does it later."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def own_files(keep: set[int]) -> None:
    """Give this process its own position in each file that is open for reading, and close the way to everything else.

    An open file is shared with the parent, with its position: a read here would move the parent's.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in _open_files():
        if number in keep or number == null:
            continue
        try:
            mode, flags = os.fstat(number).st_mode, _flags(number)
            if number <= 2 or stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                os.dup2(null, number)
            elif stat.S_ISREG(mode) and flags & os.O_ACCMODE != os.O_RDONLY:
                os.dup2(null, number)
            elif stat.S_ISREG(mode):
                position = os.lseek(number, 0, os.SEEK_CUR)
                again = os.open(f"/proc/self/fd/{number}", os.O_RDONLY)
                os.lseek(again, position, os.SEEK_SET)
                os.dup2(again, number)
                os.close(again)
        except OSError:  # closed meanwhile, or deleted on disk: it stays as it is
            continue


def _open_files() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return list(range(256))


def _flags(number: int) -> int:
    import fcntl

    return fcntl.fcntl(number, fcntl.F_GETFL)


def close_doors(shell: Any) -> None:
    """Nothing that the cell prints, displays, asks, writes or starts leaves this process."""
    tempfile.gettempdir()  # finds the folder by writing to it
    silent = io.TextIOWrapper(open(os.devnull, "wb"), write_through=True)
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = silent  # type: ignore[misc]
    sys.displayhook = lambda value: None
    builtins.input = getpass.getpass = _no_answer
    if shell is not None:
        _silence(shell)
    _redirect_writes()
    sys.addaudithook(_audit)


def _silence(shell: Any) -> None:
    """The notebook's own channels: displays, and the messages of widgets."""
    from IPython.core.displaypub import CapturingDisplayPublisher

    shell.display_pub = CapturingDisplayPublisher()
    shell.displayhook = sys.displayhook
    shell.system = shell.system_raw = shell.system_piped = lambda *args, **kwargs: None  # a `!command` is passed over
    session = getattr(getattr(shell, "kernel", None), "session", None)
    if session is not None:
        type(session).send = lambda *args, **kwargs: None


def _no_answer(*args: Any, **kwargs: Any) -> Any:
    raise Refused("asks for input")


def _redirect_writes() -> None:
    """A file that the cell writes anew goes nowhere, so that the cell goes on."""
    original = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if isinstance(mode, str) and set(mode) & set("wax") and not isinstance(file, int) and not _is_own(file):
            return original(os.devnull, mode.replace("x", "w"), *args, **kwargs)
        return original(file, mode, *args, **kwargs)

    for module in list(sys.modules.values()):  # builtins, io, and whoever took the function from there, as IPython does
        known = getattr(module, "__dict__", None) or {}
        for name in [name for name, value in list(known.items()) if value is original]:
            known[name] = opened
    torch.save = torch.jit.save = lambda *args, **kwargs: None  # type: ignore[assignment]


def _is_own(file: Any) -> bool:
    try:
        name = os.path.abspath(os.fspath(file))
    except TypeError:
        return False
    return name == os.devnull or any(name == own or name.startswith(own + os.sep) for own in _own)


def _audit(event: str, args: tuple) -> None:
    """Refuse what would change something outside of this process, by whatever way it is asked for."""
    if event == "open":
        file, _, flags = args
        if isinstance(flags, int) and flags & _WRITES and not isinstance(file, int) and not _is_own(file):
            raise Refused(f"writes {os.fspath(file)!r}")
    elif event.startswith("tempfile.mk"):
        _own.append(os.path.abspath(args[0]))
    elif event in _STARTS:
        raise Refused("starts another program")
    elif event in _CHANGES:
        if not _is_own(args[0]):
            raise Refused(f"changes {args[0]!r}")
    elif event == "socket.connect" and isinstance(args[1], tuple):
        raise Refused("opens a network connection")


def settle(limit: float) -> None:
    """One thread, and an end: torch's worker threads did not come along into this process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit)
