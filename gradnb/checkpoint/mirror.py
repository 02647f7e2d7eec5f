"""A thread that copies checkpoints to a remote store, and tries again for as long as it takes. The training never waits for it."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

from . import turns, words
from .backlog import Backlog
from .backoff import Backoff
from .deadline import within
from .errors import RemoteError
from .folder import Folder
from .model import Damage, Manifest, Remote
from .replica import Replica

T = TypeVar("T")

FIRST, LONGEST = 1.0, 300.0
"""Seconds between tries, the first time and at most."""
_LOOK = 60.0  # seconds that a listing may take when somebody waits for it
_AT_EXIT = 60.0
_QUIET = 30.0  # a file that takes longer is worth a word


class Mirror:
    """Keeps a remote store up with a folder: the newest checkpoint and the best one; what was overtaken before its turn is skipped.

    ``say`` is given one line when the store fails, and one when it is back.
    """

    def __init__(
        self, folder: Folder, remote: Remote, say: Callable[[str], None] = print, *, first: float = FIRST, longest: float = LONGEST
    ):
        self._folder, self._remote, self._say = folder, remote, say
        self._backoff = Backoff(first, longest)
        self._replica = Replica(remote, folder.keep_last, folder.keep_best)
        self._backlog = Backlog(folder, self._replica, remote.name)
        self._changed = threading.Condition()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None
        self._offered: Manifest | None = None
        self._sending: Manifest | None = None
        self._sent, self._moved = 0, 0.0
        self._wanted = self._busy = self._closing = False
        self._tries = 0
        self._error: Exception | None = None
        self._advised = ""
        self._damage: list[Damage] = []
        atexit.register(_finish, weakref.ref(self))

    # what the training's side calls

    def offer(self, manifest: Manifest) -> None:
        """There is a new checkpoint. Returns at once."""
        if self._forked():
            return
        with self._changed:
            self._offered = manifest
            self._backlog.saved(manifest)
            self._wanted = True
            if self._error is not None and _lasting(self._error):
                self._backoff.now()  # what waiting does not mend is tried with each new checkpoint
        self._start()

    def pinned(self) -> set[int]:
        """Local slots that must not be written over now: what is being sent, and what is next."""
        if self._forked():
            return set()
        with self._changed:
            return {one.slot for one in (self._sending, self._offered) if one is not None}

    def flush(self, timeout: float | None = None) -> str:
        """Wait until all is there; empty then.

        After ``timeout`` seconds, or when trying again cannot help, what is not there yet and why, in words.
        """
        return self._flush(timeout, patient=True)

    def status(self) -> str:
        """Empty when all is there; else what is on its way, and what is in its way."""
        if self._forked():
            return ""
        with self._changed:
            left = self._left()
        return f"not yet in {self._remote.name}: {left}" if left else ""

    def close(self, timeout: float = 60.0) -> None:
        """Try to bring everything there within ``timeout`` seconds, say what is left, and end the thread."""
        thread = self._thread
        if self._forked() or thread is None or self._closing:
            return
        left = self._flush(timeout, patient=False)
        self.give_way()
        if left:
            self._tell(f"not yet in {self._remote.name}: {left}. It stays in {self._folder.path}, and is copied by the next run there.")
        else:
            thread.join(1.0)

    # what a resume calls

    def in_words(self, error: RemoteError) -> str:
        """What is wrong, and the first time what to do about it."""
        told, self._advised = self._advised, str(error)
        return error.what if told == str(error) else str(error)

    def candidates(self) -> list[Manifest]:
        """The checkpoints of the store, newest first; their ``slot`` is the store's. New local ones are numbered after them from now on.

        Raises RemoteError when the store cannot be read within a minute (five, when Drive is to be mounted first).
        """
        self._connect()
        replica = Replica(self._remote, self._folder.keep_last, self._folder.keep_best)
        found = self._in_time(_LOOK, replica.look)
        self._damage = replica.damage
        self._backlog.number_after(found)
        return found

    def damaged(self) -> list[Damage]:
        """What the last `candidates` left out."""
        return list(self._damage)

    def fetch(self, manifest: Manifest) -> Manifest:
        """Bring one of `candidates` here; the local manifest. DamagedError when it is not whole there."""
        return self._folder.adopt(manifest, self._remote.get)

    # the thread

    def _start(self) -> None:
        """Without the lock held. The newest mirror of a store takes over from another one in this process."""
        if self._thread is None or not self._thread.is_alive() or self._closing:
            self._turn = turns.take(self._remote.name, self)
            self._closing = False
            self._thread = threading.Thread(target=self._run, name="gradnb checkpoint mirror", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending
                self._thread = None
        with self._changed:
            self._changed.notify_all()

    def give_way(self) -> None:
        """To a newer mirror: end when what is being sent is there."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while self._wait():
            error: Exception | None = None
            try:
                with self._turn:
                    self._catch_up()
            except Exception as failure:  # told in a line, tried again: it must never end the training
                error = failure
            self._settle(error)

    def _wait(self) -> bool:
        """Until it is time to do what is wanted. False when it is time to end."""
        with self._changed:
            while self._wanted and not self._over() and self._backoff.left() > 0:
                self._changed.wait(self._backoff.left())
            if self._over():
                return False
            if not self._wanted:
                self._thread = None  # one that waits would keep the whole training alive when its Checkpointer is dropped
                return False
            self._wanted, self._busy = False, True
            return True

    def _over(self) -> bool:
        return self._closing or threading.current_thread() is not self._thread

    def _catch_up(self) -> None:
        if self._closing:
            return
        self._connect()
        self._replica.look()
        while not self._closing and (job := self._next()) is not None:
            try:
                self._replica.put(job, self._folder, self._count)
            except Exception:
                if not self._backlog.is_at_fault(job):
                    raise
                self._replica.look()
            else:
                self._backlog.sent(job)
            finally:
                with self._changed:
                    if self._offered is job:
                        self._offered = None
                    self._sending = None

    def _next(self) -> Manifest | None:
        """What to send now. It is pinned."""
        local = self._folder.manifests()
        with self._changed:
            job = self._backlog.next(local, self._offered or next(iter(local), None))
            self._sending, self._sent, self._moved = job, 0, time.monotonic()
            if job is None:
                self._offered = None
            return job

    def _count(self, files: int) -> None:
        with self._changed:
            self._sent, self._moved = files, time.monotonic()

    def _settle(self, error: Exception | None) -> None:
        """Note how a round ended; one line when that is news."""
        before = self._error
        if error is not None and type(error) is not type(before):
            failed = f"copying to {self._remote.name} failed: {type(error).__name__}: {error}."
            text = self.in_words(error) if isinstance(error, RemoteError) else failed
            self._tell(f"{text} Training goes on; checkpoints stay in {self._folder.path}, and are copied as soon as that works.")
        elif error is None and before is not None:
            self._tell(f"{self._remote.name} is up to date again")
        with self._changed:
            self._error, self._busy = error, False
            self._tries += 1
            if error is None:
                self._backoff.worked()
            else:
                self._wanted = True
                self._backoff.failed(_lasting(error))
            self._changed.notify_all()

    # inside

    def _flush(self, timeout: float | None, patient: bool) -> str:
        if self._forked():
            return ""
        with self._changed:
            begun = self._tries
            self._wanted = True
            self._backoff.now()
        self._start()

        def over() -> bool:
            if self._thread is None or self._closing or not (self._wanted or self._busy):
                return True
            return self._tries > begun and self._error is not None and (not patient or _lasting(self._error))

        with self._changed:
            self._changed.wait_for(over, timeout)
            return self._left()

    def _left(self) -> str:
        """With the lock held."""
        if not self._wanted and not self._busy:
            return ""
        job = self._sending or self._offered or next(iter(self._folder.manifests()), None)
        if job is None:
            return ""
        sent = self._sent if job is self._sending else 0
        text = f"checkpoint {job.id}, {words.size(job.size)}, {sent} of {words.plural(len(job.files), 'file')} there"
        if job is self._sending and (quiet := time.monotonic() - self._moved) > _QUIET:
            text += f", the next one on its way for {quiet:.0f} s"
        if self._error is None:
            return text
        error = self._error.what if isinstance(self._error, RemoteError) else str(self._error)  # what to do was told when it came
        why = error.removeprefix(f"{self._remote.name}: ").rstrip(".")
        return f"{text} ({why})"

    def _connect(self) -> None:
        connect = getattr(self._remote, "connect", None)  # a mount may ask for the user's consent
        if connect is not None:
            connect()  # in the caller's thread, and with a limit of its own

    def _in_time(self, limit: float, action: Callable[[], T]) -> T:
        try:
            return within(limit, action)
        except TimeoutError as error:
            raise RemoteError(f"{self._remote.name} does not answer ({error}).") from error

    def _tell(self, text: str) -> None:
        with contextlib.suppress(Exception):  # the output may be closed already
            self._say(text)

    def _forked(self) -> bool:
        """The thread stayed with the parent, and its locks may have been held."""
        return os.getpid() != self._process


def _lasting(error: Exception) -> bool:
    """Will trying again not help?"""
    return isinstance(error, RemoteError) and not error.again


def _finish(ref: "weakref.ref[Mirror]") -> None:
    mirror = ref()
    if mirror is not None:
        mirror.close(_AT_EXIT)
