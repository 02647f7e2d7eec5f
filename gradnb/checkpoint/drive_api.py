"""A folder on Google Drive by its API: from Jupyter, Binder, or anywhere."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import drive_auth
from .drive_folder import FILE, Tree, is_ours, marked
from .drive_http import Calls
from .drive_path import parts
from .drive_transfer import CHUNK, FIELDS, digest, part_of, receive, same, send
from .errors import RemoteError
from .model import Entry

_UPLOADS = 3
"""Times that a file is sent before a checksum that differs is an error."""
_LISTED = 60.0
"""Seconds in which a new file may be missing from a listing."""


class DriveAPI:
    """A folder of My Drive as a store for checkpoints: ``Checkpointer(DriveAPI("MyDrive/run1", credentials="me.json"))``.

    With the scope ``drive.file`` it sees only what was made with the same OAuth client: a folder that was made by hand is another one.
    Its methods are those of ``gradnb.checkpoint.model.Remote``.

    Parameters
    ----------
    folder
        ``"MyDrive/run1"``, or ``"run1"``; made when it is missing.
    credentials
        A google.auth credentials object, the path of its JSON file (authorized user, service account), or None for the default of
        the environment.
    service
        Makes a client of the Drive API v3, called once a thread; in place of ``credentials``.
    sleep
        Called with the number of seconds to wait between tries.
    chunk
        Bytes that are sent at a time; memory of this size is taken while a file is sent.

    Raises
    ------
    UsageError
        Where there can be no such place, the ``[drive]`` extra is missing, or no credentials were found.
    """

    def __init__(
        self,
        folder: str,
        credentials: Any = None,
        service: Callable[[], Any] | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        chunk: int = CHUNK,
    ):
        path = parts(folder)
        drive_auth.require()
        if service is None:
            found = drive_auth.find(credentials)
            service = lambda: drive_auth.service(found)  # noqa: E731
        self.name = "drive:" + "/".join(path)
        self._make_service, self._chunk = service, chunk
        self._local = threading.local()
        self._naming = threading.RLock()  # of names and ids; transfers of several threads go on side by side
        self._calls = Calls(self.name, sleep)
        self._tree = Tree(self.name, path, self._calls, self._files)
        self._folder: str | None = None
        self._known: dict[str, dict[str, Any]] = {}
        self._doubles: dict[str, list[str]] = {}
        self._half: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def list(self) -> dict[str, Entry]:
        """The files that are there, by name. Raises RemoteError."""
        with self._calls.in_words("listing the folder"):
            with self._naming:
                listed = self._look()
            return {name: Entry(int(one.get("size", 0)), one.get("sha256Checksum")) for name, one in listed.items()}

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Upload the local file ``source`` as ``name``; ``sha256`` is compared with what arrived. Raises RemoteError (QuotaError: full)."""
        if self._known.get(name, {}).get("sha256Checksum") != sha256:  # else an earlier try brought it here
            self._store(name, source, sha256)

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to the file ``name``. Raises RemoteError, QuotaError when Drive is full."""
        self._store(name, data, digest(data))

    def get(self, name: str, target: Path) -> None:
        """Download the file ``name`` to the local file ``target``. Raises RemoteError, WriteError where ``target`` cannot be written."""
        with self._calls.in_words(f"the download of {name}"):
            receive(self._calls, self._content(name), target, f"the download of {name}", self._chunk)

    def read(self, name: str) -> bytes:
        """The content of the file ``name`` as bytes. Raises RemoteError."""
        with self._calls.in_words(f"reading {name}"):
            return self._calls.run(f"reading {name}", self._content(name).execute)

    def remove(self, name: str) -> None:
        """Delete the file ``name`` for good: it does not go to the trash, which would count against the quota. Raises RemoteError."""
        with self._calls.in_words(f"deleting {name}"):
            with self._naming:
                one = self._named(name)
                self._known.pop(name, None)
                ids = ([one["id"]] if one is not None else []) + self._doubles.pop(name, [])
            for id in ids:
                self._delete(id)

    def free(self) -> int | None:
        """Bytes that still fit; None where the account has no limit or cannot be asked."""
        usage = self._usage()
        return None if usage is None else max(0, usage[1] - usage[0])

    # inside

    def _client(self) -> Any:
        """This thread's own, and this process's: a connection is not shared."""
        if getattr(self._local, "process", None) != os.getpid():
            self._local.service, self._local.process = self._make_service(), os.getpid()
        return self._local.service

    def _files(self) -> Any:
        return self._client().files()

    def _look(self) -> dict[str, dict[str, Any]]:
        """What is in the folder by name; of several with one name the newest of ours."""
        found = self._tree.children(self._folder) if self._folder is not None else []
        if not found:  # a folder that was moved to the trash looks empty
            before, self._folder = self._folder, self._tree.find()
            if self._folder != before:
                self._known = {}
            found = self._tree.children(self._folder) if self._folder is not None else []
        groups: dict[str, list[dict[str, Any]]] = {}
        for one in found:
            groups.setdefault(one["name"], []).append(one)
        listed = {name: marked(same_name)[0] for name, same_name in groups.items()}
        self._doubles = {name: [one["id"] for one in marked(same_name)[1:] if is_ours(one)] for name, same_name in groups.items()}
        fresh = {name: one for name, one in self._known.items() if time.monotonic() - one.get("made", -_LISTED) < _LISTED}
        self._known = fresh | listed
        return listed

    def _store(self, name: str, source: "Path | bytes", sha256: str) -> None:
        size = part_of(source).size()
        what = f"the upload of {name}"
        with self._calls.in_words(what, size, self._usage):
            why = ""
            for _ in range(_UPLOADS):
                answer = self._upload(name, source, sha256, what)
                why = same(source, sha256, answer)
                if not why:
                    with self._naming:
                        self._known[name] = {**self._known.get(name, {}), **answer}
                        doubles = self._doubles.pop(name, [])
                    for id in doubles:
                        self._delete(id)
                    return
                if not isinstance(source, bytes) and digest(source) != sha256:
                    raise RemoteError(f"{source} is not what its manifest says: it was changed or damaged before it was uploaded.")
        raise RemoteError(f"{self.name}: {what} arrived wrong {_UPLOADS} times ({why}).")

    def _upload(self, name: str, source: "Path | bytes", sha256: str, what: str) -> dict[str, Any]:
        """Over the file of this name in place; a file, a folder or an upload session that is gone is begun anew."""
        from googleapiclient.errors import HttpError

        key = (sha256, threading.get_ident())
        for left in reversed(range(_UPLOADS)):
            request, part = self._half.pop((name, *key)) if (name, *key) in self._half else self._begin(name, source)
            try:
                return send(self._calls, request, part, what)
            except HttpError as error:
                if error.resp.status not in (404, 410) or left == 0:
                    raise
                if request.resumable_uri is None:  # not a session is gone but the file
                    with self._naming:
                        self._known.pop(name, None)
                        self._look()
            except RemoteError:
                if request.resumable_uri is not None:
                    self._half = {(name, *key): (request, part)}  # the next try goes on from the byte that the server has
                raise
        raise AssertionError("unreachable")

    def _begin(self, name: str, source: "Path | bytes") -> tuple[Any, Any]:
        with self._naming:
            one = self._named(name) or self._create(name)
            one.pop("sha256Checksum", None)  # from now on nobody knows until the server has answered
        part = part_of(source, self._chunk)
        return self._files().update(fileId=one["id"], media_body=part, fields=FIELDS), part

    def _named(self, name: str) -> dict[str, Any] | None:
        if name not in self._known:
            self._look()
        return self._known.get(name)

    def _create(self, name: str) -> dict[str, Any]:
        """An empty file first, then its content by an update: both can be sent again without making a second one.

        (One request for both would be multipart, whose boundary the library draws from the user's ``random``.)
        """
        from googleapiclient.errors import HttpError

        if self._folder is None:
            self._folder = self._tree.make()
        try:
            id = self._tree.create(name, self._folder, FILE)
        except HttpError as error:
            if error.resp.status != 404:
                raise
            self._folder = self._tree.make()  # it was deleted while we knew its id
            id = self._tree.create(name, self._folder, FILE)
        self._known[name] = {"id": id, "made": time.monotonic()}
        return self._known[name]

    def _content(self, name: str) -> Any:
        with self._naming:
            one = self._named(name)
        if one is None:
            raise RemoteError(f"{self.name} has no file {name}.")
        return self._files().get_media(fileId=one["id"])

    def _delete(self, id: str) -> None:
        from googleapiclient.errors import HttpError

        try:
            self._calls.run("deleting a file", self._files().delete(fileId=id).execute)
        except HttpError as error:
            if error.resp.status != 404:
                raise

    def _usage(self) -> tuple[int, int] | None:
        """(used, limit) of the account in bytes; None where it has no limit or cannot be asked."""
        from google.auth.exceptions import GoogleAuthError
        from googleapiclient.errors import HttpError

        try:
            quota = self._calls.run("asking for the quota", self._client().about().get(fields="storageQuota").execute).get(
                "storageQuota", {}
            )
        except (HttpError, GoogleAuthError, RemoteError):
            return None
        return (int(quota.get("usage", 0)), int(quota["limit"])) if "limit" in quota else None
