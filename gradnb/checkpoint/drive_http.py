"""One call of the Drive API: what is tried again and how long is waited, and what an error means in words."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import drive_auth, words
from .errors import QuotaError, RemoteError

T = TypeVar("T")

TRIES = 6
"""Tries without any progress. 1 + 2 + 4 + 8 + 16 s; then the mirror's own, longer waits take over."""
LONGEST = 300.0
"""Seconds that are waited at most, whatever Retry-After says."""
MAKE_ROOM = "Free some space on Google Drive (empty its trash)."
_RATE = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded", "backendError", "internalError"}
_jitter = random.Random()  # not the user's stream


class Calls:
    """Runs calls for one DriveAPI. ``name`` is the place as the user gave it; ``sleep`` takes seconds."""

    def __init__(self, name: str, sleep: Callable[[float], None] = time.sleep):
        self._name, self._sleep = name, sleep

    def run(self, what: str, action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """``action()``, tried again after rate limits, server errors and broken connections.

        ``progress`` is a number that grows while tries get somewhere: then they count from the beginning. An HttpError that
        another try cannot mend is raised as it is (see ``in_words``).
        """
        from googleapiclient.errors import HttpError

        tries, reached = 0, progress()
        while True:
            pause = 0.0
            try:
                with drive_auth.unnoticed():
                    return action()
            except HttpError as error:
                if not _passing(error):
                    raise
                pause, cause = _retry_after(error), _answer(error)
                failure: Exception = error
            except _broken() as error:
                cause, failure = f"{type(error).__name__}: {error}".rstrip(": "), error
            if progress() > reached:
                tries, reached = 0, progress()
            tries += 1
            if tries >= TRIES:
                raise RemoteError(f"{self._name} cannot be reached: {what} failed {tries} times ({cause}).") from failure
            self._sleep(max(pause, 2.0 ** (tries - 1) * (0.5 + _jitter.random() / 2)))

    @contextlib.contextmanager
    def in_words(self, what: str, size: int = 0, usage: Callable[[], tuple[int, int] | None] = lambda: None) -> Iterator[None]:
        """Turns what ``run`` let through into RemoteErrors. ``usage()`` is (used, limit) in bytes, asked for when the store is full."""
        from google.auth.exceptions import GoogleAuthError, RefreshError
        from googleapiclient.errors import HttpError

        try:
            yield
        except RefreshError as error:
            raise drive_auth.refused(error) from error
        except GoogleAuthError as error:
            raise RemoteError(f"{self._name}: {what} failed while logging in: {error}") from error
        except HttpError as error:
            raise self._words(error, what, size, usage) from error

    def _words(self, error: Any, what: str, size: int, usage: Callable[[], tuple[int, int] | None]) -> RemoteError:
        why = reason(error)
        if why in ("storageQuotaExceeded", "teamDriveFileLimitExceeded", "quotaExceeded"):
            return QuotaError(_full(self._name, what, size, usage()))
        if error.resp.status == 401:
            return drive_auth.refused(error)
        if why in ("insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientScopes"):
            return RemoteError(f"{self._name}: the credentials lack the scope {drive_auth.SCOPE}; make new ones with it.", again=False)
        later = error.resp.status in (404, 409, 412)
        return RemoteError(f"{self._name}: {what} was refused ({_answer(error)}).", again=later)


def reason(error: Any) -> str:
    """Google's word for an HttpError: ``storageQuotaExceeded``; empty where the answer has none."""
    try:
        found = json.loads(error.content.decode("utf-8"))["error"]
        return str(found["errors"][0]["reason"] if found.get("errors") else found.get("status", ""))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""


def _passing(error: Any) -> bool:
    """Can another try help?"""
    status = error.resp.status
    return status in (408, 429) or status >= 500 or (status == 403 and reason(error) in _RATE)


def _broken() -> tuple[type[Exception], ...]:
    """What a connection raises when it breaks; errors of local files are none of these here (see ``drive_transfer``)."""
    import http.client

    import httplib2
    from google.auth.exceptions import TransportError

    return (OSError, http.client.HTTPException, httplib2.HttpLib2Error, TransportError)


def _retry_after(error: Any) -> float:
    """Seconds that the server asks to wait: a number or a date."""
    from email.utils import parsedate_to_datetime

    asked = error.resp.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST)


def _answer(error: Any) -> str:
    text = error.reason or reason(error)
    return f"HTTP {error.resp.status}" + (f", {text}" if text else "")


def _full(name: str, what: str, size: int, usage: tuple[int, int] | None) -> str:
    need = f"{what} needs {words.size(size)}"
    if usage is not None and usage[1] == 0:
        return f"{name}: these credentials have no storage of their own (a service account?), and {need}. Use a user's credentials."
    used = f"{words.size(usage[0])} of {words.size(usage[1])} are used, " if usage is not None else ""
    return f"{name} is full: {used}{need}. {MAKE_ROOM}"
