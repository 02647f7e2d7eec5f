"""Who may write to Google Drive, and the client that does: google-auth and google-api-python-client behind two functions."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .errors import RemoteError

SCOPE = "https://www.googleapis.com/auth/drive.file"
"""Only files that this application made itself: it can neither read nor delete anything else on the user's Drive."""

_NO_EXTRA = "The Drive API needs google-api-python-client and google-auth: pip install gradnb[drive]"
_LOGIN = (
    f"gcloud auth application-default login --client-id-file=CLIENT.json --scopes={SCOPE},https://www.googleapis.com/auth/cloud-platform"
)
_HOW = (
    'Give a file: DriveAPI("MyDrive/run1", credentials="authorized_user.json"), or a google.auth credentials object; '
    f"or make default ones: {_LOGIN}"
)

_jitter = random.Random()
_swap = threading.Lock()
_ours = threading.local()
_logger = logging.getLogger("googleapiclient.http")
_inside = 0


def find(credentials: Any = None) -> Any:
    """A google.auth credentials object: the one given, one from a JSON file (service account, authorized user), or the default one.

    Raises UsageError for a missing extra, a file that is none, and where no default exists.
    """
    require()
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    if isinstance(credentials, (str, os.PathLike)):
        return _from_file(Path(credentials).expanduser())
    if credentials is not None:
        if not isinstance(credentials, google.auth.credentials.Credentials):
            raise UsageError(
                f"credentials={type(credentials).__name__}: a google.auth credentials object, or the path of its JSON file, is expected."
            )
        return google.auth.credentials.with_scopes_if_required(credentials, [SCOPE])
    try:
        with unnoticed():
            return google.auth.default(scopes=[SCOPE])[0]
    except DefaultCredentialsError as error:
        raise UsageError(f"No Google credentials were found. {_HOW}") from error


def service(credentials: Any) -> Any:
    """A client of the Drive API with a connection of its own (httplib2 serves one thread only).

    The description of the API comes with the library: nothing is asked of the network.
    """
    from googleapiclient.discovery import build

    return build("drive", "v3", http=connection(credentials), cache_discovery=False, static_discovery=True)


def connection(credentials: Any) -> Any:
    """With the library's time limit of a minute, and 308 as an answer (a resumable upload's); an expired token is renewed once."""
    from google_auth_httplib2 import AuthorizedHttp
    from googleapiclient.http import build_http

    return AuthorizedHttp(credentials, http=build_http(), max_refresh_attempts=1)


def require() -> None:
    """UsageError where the extra is not installed."""
    try:
        import google.auth  # noqa: F401
        import google_auth_httplib2  # noqa: F401
        import googleapiclient.discovery  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{_NO_EXTRA} ({error})") from error


@contextlib.contextmanager
def unnoticed() -> Iterator[None]:
    """Inside, Google's libraries neither draw from the user's ``random`` (the jitter of google-auth) nor log a warning for each try."""
    global _inside
    from google.auth import _exponential_backoff as backoff

    with _swap:
        _inside += 1
        setattr(backoff, "random", _jitter)  # noqa: B010
        _logger.addFilter(_silence)
    _ours.silent = True
    try:
        yield
    finally:
        _ours.silent = False
        with _swap:
            _inside -= 1
            if _inside == 0:
                setattr(backoff, "random", random)  # noqa: B010
                _logger.removeFilter(_silence)


def _silence(record: logging.LogRecord) -> bool:
    """Other threads may use the library too."""
    return not getattr(_ours, "silent", False)


def refused(error: Exception) -> RemoteError:
    """A refresh of the credentials that failed, in words."""
    if getattr(error, "retryable", False):
        return RemoteError(f"Google's token server does not answer: {_first_line(error)}")
    return RemoteError(
        f"The Google credentials have expired or were withdrawn, and could not be renewed ({_first_line(error)}).",
        again=False,
        todo=f"Make new ones and run the cell again. {_HOW}",
    )


def _from_file(path: Path) -> Any:
    """Two kinds only: other files can name any address to fetch a token from, and google-auth warns of reading them unseen."""
    import json

    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import credentials, service_account

    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The credentials file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The credentials file {path} is not JSON: {error}.") from error
    kind = info.get("type") if isinstance(info, dict) else None
    if kind is None and isinstance(info, dict) and ("installed" in info or "web" in info):
        raise UsageError(f"{path} holds an OAuth client, not a user's credentials. Log in with it: {_LOGIN}")
    try:
        if kind == "authorized_user":
            return credentials.Credentials.from_authorized_user_info(info, scopes=[SCOPE])
        if kind == "service_account":
            return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
    except (GoogleAuthError, ValueError) as error:
        raise UsageError(f"The credentials in {path} are not whole: {_first_line(error)}") from error
    raise UsageError(
        f'{path} is of type {kind!r}; "authorized_user" or "service_account" is expected. '
        "For others make a google.auth credentials object, and give it as credentials=."
    )


def _first_line(error: Exception) -> str:
    return (str(error.args[0]) if error.args else type(error).__name__).strip().splitlines()[0][:200]
