"""A stand-in for Google Drive on the loopback: it keeps files, sessions, ids, a quota and tokens, and fails when told to.

The tests run the real client against it. It knows the part of Drive's API v3 that is documented and used.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

UNIT = 256 * 1024
FOLDER = "application/vnd.google-apps.folder"


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a kind, after ``skip`` good ones.

    Kinds: list, ids, create, begin (a session), chunk, status (of a session), simple (an upload in one request), get, media, delete,
    about, token.
    """

    kind: str
    status: int = 503
    reason: str = "backendError"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    done: bool = False
    """The request is carried out, only its answer is this fault."""
    drop: int | None = None
    """The connection breaks after so many bytes of the request's body (of the answer's for ``media``)."""
    forget: bool = False
    """The upload session is lost."""
    token_error: str = "invalid_grant"


@dataclass
class Stored:
    id: str
    name: str
    parents: list[str]
    kind: str
    data: bytes = b""
    marks: dict[str, str] = field(default_factory=dict)
    modified: int = 0
    trashed: bool = False
    revisions: int = 0


@dataclass
class Session:
    file: str
    total: int
    data: bytearray = field(default_factory=bytearray)
    finished: bool = False


class DriveServer:
    """``with DriveServer() as drive:``; ``drive.url`` is its address."""

    def __init__(self) -> None:
        self.files: dict[str, Stored] = {}
        self.sessions: dict[str, Session] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []
        """(kind, file or session, status) of all requests; status 0 where the connection was broken."""
        self.limit: int | None = None
        self.token, self.tokens = "token-0", itertools.count(1)
        self.page, self.with_sha256, self.with_md5 = 1000, True, True
        self.hidden: set[str] = set()
        """Names that are there and not listed."""
        self.spoil = 0
        """So many uploads arrive with a flipped byte."""
        self.received = 0
        """Bytes of content that were kept."""
        self.connections = 0
        self._ids, self._clock, self.lock = itertools.count(1), itertools.count(1), threading.RLock()

    def __enter__(self) -> "DriveServer":
        owner = self

        class Bound(Handler):
            drive = owner

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    # what tests ask and prepare

    def fail(self, kind: str, **how: Any) -> None:
        self.faults.append(Fault(kind, **how))

    def count(self, kind: str, status: int | None = None) -> int:
        return sum(one[0] == kind and status in (None, one[2]) for one in self.log)

    def named(self, name: str) -> list[Stored]:
        return [one for one in self.files.values() if one.name == name and not self.in_trash(one)]

    def only(self, name: str) -> Stored:
        (one,) = self.named(name)
        return one

    def add(self, name: str, parent: str = "root", data: bytes = b"", kind: str = "application/octet-stream", ours: bool = True) -> Stored:
        one = Stored(self.new_id(), name, [parent], kind, data, {"gradnb": "checkpoints"} if ours else {}, next(self._clock))
        self.files[one.id] = one
        return one

    def expire(self) -> None:
        """The token that clients hold is no longer taken; a refresh gives the next one."""
        self.token = f"token-{next(self.tokens)}"

    # what requests need

    def new_id(self) -> str:
        return f"id{next(self._ids):05d}"

    def touch(self, one: Stored, data: bytes) -> None:
        if self.spoil and data:
            self.spoil -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        one.data, one.modified, one.revisions = data, next(self._clock), one.revisions + 1
        self.received += len(data)

    def in_trash(self, one: Stored) -> bool:
        return one.trashed or any(parent in self.files and self.in_trash(self.files[parent]) for parent in one.parents)

    def used(self) -> int:
        return sum(len(one.data) for one in self.files.values())

    def fits(self, file: str, size: int) -> bool:
        return self.limit is None or self.used() - len(self.files[file].data) + size <= self.limit

    def take(self, kind: str) -> Fault | None:
        for fault in self.faults:
            if fault.kind == kind:
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def described(self, one: Stored) -> dict[str, Any]:
        answer: dict[str, Any] = {"id": one.id, "name": one.name, "mimeType": one.kind, "parents": one.parents, "appProperties": one.marks}
        answer["modifiedTime"] = f"2026-01-01T00:00:00.{one.modified:06d}Z"
        if one.kind != FOLDER:
            answer["size"] = str(len(one.data))
            if self.with_sha256:
                answer["sha256Checksum"] = hashlib.sha256(one.data).hexdigest()
            if self.with_md5:
                answer["md5Checksum"] = hashlib.md5(one.data, usedforsecurity=False).hexdigest()
        return answer

    def search(self, query: str) -> list[Stored]:
        terms: list[tuple[str, ...]] = []

        def term(match: re.Match[str]) -> str:
            terms.append(match.groups(""))
            return f"T({len(terms) - 1})"

        text = r"'((?:[^'\\]|\\.)*)'"
        expression = re.sub(rf"(name|mimeType) (=|!=) {text}|{text} in parents|(trashed) = false", term, query)
        assert re.fullmatch(r"(T\(\d+\)|[() ]|and|or)*", expression), query

        def holds(one: Stored, at: int) -> bool:
            name, operator, value, parent, trash = terms[at]
            if trash:
                return not self.in_trash(one)
            if parent:
                return parent in one.parents
            value = re.sub(r"\\(.)", r"\1", value)
            return ((one.name if name == "name" else one.kind) == value) == (operator == "=")

        found = [
            one
            for one in self.files.values()
            if one.name not in self.hidden and eval(expression, {"T": lambda at, one=one: holds(one, at)})
        ]
        return sorted(found, key=lambda one: -one.modified)


class Broken(Exception):
    """The connection is to be closed now."""


class Handler(BaseHTTPRequestHandler):
    drive: DriveServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet

    def setup(self) -> None:
        super().setup()
        self.drive.connections += 1

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        kind, subject = self._kind(url.path, query)
        with self.drive.lock:
            fault = self.drive.take(kind)
        try:
            body = self._body(kind, subject, fault)
            with self.drive.lock:
                if kind != "token" and self.headers.get("Authorization") != f"Bearer {self.drive.token}":
                    return self._answer(kind, subject, 401, self._error(401, "authError"))
                if fault is not None and fault.forget:
                    self.drive.sessions.pop(subject, None)
                if fault is not None and kind != "media" and not fault.done:
                    if fault.drop is not None:
                        raise Broken
                    error = {"error": fault.token_error} if kind == "token" else self._error(fault.status, fault.reason)
                    return self._answer(kind, subject, fault.status, error, fault.headers)
                status, content, headers = getattr(self, f"_{kind}")(subject, query, body)
                if fault is not None and fault.done:
                    if fault.drop is not None:
                        raise Broken
                    return self._answer(kind, subject, fault.status, self._error(fault.status, fault.reason), fault.headers)
            if kind == "media" and fault is not None:
                if fault.drop is None:
                    return self._answer(kind, subject, fault.status, self._error(fault.status, fault.reason), fault.headers)
                self._answer(kind, subject, status, content, headers, cut=fault.drop)
                raise Broken
            self._answer(kind, subject, status, content, headers)
        except Broken:
            self.drive.log.append((kind, subject, 0))
            self.close_connection = True

    def _kind(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        """What is asked for, and of which file or session."""
        name = path.rpartition("/")[2]
        if path == "/token":
            return "token", ""
        if path.startswith(("/upload/", "/resumable/upload/")):
            if "upload_id" in query:
                return ("status" if self.headers.get("Content-Range", "").startswith("bytes */") else "chunk"), query["upload_id"]
            return ("begin" if query.get("uploadType") == "resumable" else "simple"), name
        if path == "/drive/v3/about":
            return "about", ""
        if path == "/drive/v3/files":
            return ("create" if self.command == "POST" else "list"), ""
        if path == "/drive/v3/files/generateIds":
            return "ids", ""
        if self.command == "DELETE":
            return "delete", name
        return ("media" if query.get("alt") == "media" else "get"), name

    def _body(self, kind: str, subject: str, fault: Fault | None) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if fault is None or fault.drop is None or fault.done or kind == "media":
            return self.rfile.read(length)
        part = self.rfile.read(min(fault.drop, length))
        session = self.drive.sessions.get(subject)
        if kind == "chunk" and session is not None:
            session.data += part[: len(part) // UNIT * UNIT]
        raise Broken

    def _answer(
        self, kind: str, subject: str, status: int, content: Any, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.drive.log.append((kind, subject, status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])

    @staticmethod
    def _error(status: int, reason: str) -> dict[str, Any]:
        return {
            "error": {
                "code": status,
                "message": f"{reason} (stand-in)",
                "errors": [{"domain": "global", "reason": reason, "message": reason}],
            }
        }

    # the requests; each gives (status, content, headers)

    def _token(self, _: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        return 200, {"access_token": self.drive.token, "expires_in": 3600, "token_type": "Bearer"}, {}

    def _about(self, *_: Any) -> tuple[int, Any, dict[str, str]]:
        quota = {"usage": str(self.drive.used())}
        if self.drive.limit is not None:
            quota["limit"] = str(self.drive.limit)
        return 200, {"storageQuota": quota}, {}

    def _list(self, _: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        found, begin = self.drive.search(query["q"]), int(query.get("pageToken", 0))
        end = begin + min(self.drive.page, int(query["pageSize"]))
        answer: dict[str, Any] = {"files": [self.drive.described(one) for one in found[begin:end]]}
        if end < len(found):
            answer["nextPageToken"] = str(end)
        return 200, answer, {}

    def _ids(self, _: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        return 200, {"ids": [self.drive.new_id() for _ in range(int(query["count"]))]}, {}

    def _create(self, _: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        wanted = json.loads(body)
        id = wanted.get("id") or self.drive.new_id()
        if id in self.drive.files:
            return 409, self._error(409, "fileIdInUse"), {}
        parent = wanted["parents"][0]
        if parent != "root" and parent not in self.drive.files:
            return 404, self._error(404, "notFound"), {}
        made = Stored(
            id, wanted["name"], [parent], wanted["mimeType"], marks=wanted.get("appProperties", {}), modified=next(self.drive._clock)
        )
        self.drive.files[id] = made
        return 200, self.drive.described(made), {}

    def _get(self, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        one = self.drive.files.get(id)
        return (200, self.drive.described(one), {}) if one is not None else (404, self._error(404, "notFound"), {})

    def _delete(self, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        return (204, b"", {}) if self.drive.files.pop(id, None) is not None else (404, self._error(404, "notFound"), {})

    def _media(self, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        one = self.drive.files.get(id)
        if one is None:
            return 404, self._error(404, "notFound"), {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            return 200, one.data, {}
        begin, end = int(asked[1]), min(int(asked[2]) + 1, len(one.data))
        if begin >= len(one.data):
            return 416, b"", {"Content-Range": f"bytes */{len(one.data)}"}
        return 206, one.data[begin:end], {"Content-Range": f"bytes {begin}-{end - 1}/{len(one.data)}"}

    def _simple(self, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        assert query["uploadType"] == "media" and self.command == "PATCH" and "keepRevisionForever" not in query
        if id not in self.drive.files:
            return 404, self._error(404, "notFound"), {}
        if not self.drive.fits(id, len(body)):
            return 403, self._error(403, "storageQuotaExceeded"), {}
        self.drive.touch(self.drive.files[id], body)
        return 200, self.drive.described(self.drive.files[id]), {}

    def _begin(self, id: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        assert self.command == "PATCH" and "keepRevisionForever" not in query
        total = int(self.headers["X-Upload-Content-Length"])
        if id not in self.drive.files:
            return 404, self._error(404, "notFound"), {}
        if not self.drive.fits(id, total):
            return 403, self._error(403, "storageQuotaExceeded"), {}
        session = f"session{next(self.drive._ids)}"
        self.drive.sessions[session] = Session(id, total)
        return 200, b"", {"Location": f"{self.drive.url}/upload/drive/v3/files/{id}?uploadType=resumable&upload_id={session}"}

    def _chunk(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        session = self.drive.sessions.get(name)
        if session is None:
            return 404, self._error(404, "notFound"), {}
        begin, end, total = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", self.headers["Content-Range"]).groups())  # type: ignore[union-attr]
        whole = end + 1 == total
        if begin != len(session.data) or len(body) != end - begin + 1 or total != session.total or not (whole or len(body) % UNIT == 0):
            return 400, self._error(400, "badRequest"), {}
        session.data += body
        return self._status(name, query, b"")

    def _status(self, name: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        session = self.drive.sessions.get(name)
        if session is None:
            return 404, self._error(404, "notFound"), {}
        if len(session.data) < session.total:
            return 308, b"", {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        if not session.finished:
            session.finished = True
            self.drive.touch(self.drive.files[session.file], bytes(session.data))
        return 200, self.drive.described(self.drive.files[session.file]), {}


def client(drive: DriveServer, credentials: Any = None) -> Any:
    """The real client of the Drive API, with Drive's own description of itself, pointed at the stand-in."""
    from google.oauth2.credentials import Credentials
    from googleapiclient.discovery import build_from_document
    from googleapiclient.discovery_cache import get_static_doc

    from gradnb.checkpoint import drive_auth

    if credentials is None:
        credentials = Credentials(
            drive.token, refresh_token="refresh", token_uri=f"{drive.url}/token", client_id="id", client_secret="secret"
        )
    document = json.loads(get_static_doc("drive", "v3"))
    document.update(rootUrl=f"{drive.url}/", baseUrl=f"{drive.url}/drive/v3/")
    return build_from_document(document, http=drive_auth.connection(credentials))


def wait_until(condition: Any, limit: float = 10.0) -> bool:
    """True as soon as it holds; False after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
