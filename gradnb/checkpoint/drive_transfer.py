"""Files to and from the Drive API, in chunks that go on after a broken connection."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import Any

from .drive_http import Calls
from .errors import RemoteError, WriteError

UNIT = 256 * 1024
"""Drive takes chunks that are multiples of this."""
CHUNK = 64 * UNIT
"""16 MiB: held in memory while it is sent. A connection that breaks within one gets smaller ones."""
SIMPLE = 20 * UNIT
"""Up to 5 MiB a file goes in one request, as Google advises."""
FIELDS = "id,name,size,sha256Checksum,md5Checksum"


def part_of(source: "Path | bytes", chunk: int = CHUNK) -> Any:
    """What is uploaded, as googleapiclient takes it.

    It gives bytes, not a stream: the library does not rewind a stream when it sends a chunk again (after a 401, say).
    """
    from googleapiclient.http import MediaUpload

    total = _length(source)

    class Part(MediaUpload):
        size_of_chunk = max(UNIT, chunk // UNIT * UNIT)

        def chunksize(self) -> int:
            return self.size_of_chunk

        def mimetype(self) -> str:
            return "application/octet-stream"

        def size(self) -> int:
            return total

        def resumable(self) -> bool:
            return total > min(SIMPLE, self.size_of_chunk)

        def has_stream(self) -> bool:
            return False

        def getbytes(self, begin: int, length: int) -> bytes:
            if isinstance(source, bytes):
                return source[begin : begin + length]
            try:
                with open(source, "rb") as file:
                    file.seek(begin)
                    data = file.read(min(length, total - begin))
            except OSError as error:
                raise RemoteError(f"{source} cannot be read for the upload: {error.strerror}.") from error
            if len(data) < min(length, total - begin):
                raise RemoteError(f"{source} became shorter while it was uploaded.")
            return data

    return Part()


def send(calls: Calls, request: Any, part: Any, what: str) -> dict[str, Any]:
    """Upload by this request of ``files.update``; what the server says of the file then. An HttpError that no try mends comes through."""
    from googleapiclient.errors import HttpError

    if not part.resumable():
        return calls.run(what, request.execute)

    def next_chunk() -> Any:
        try:
            return request.next_chunk(num_retries=0)[1]
        except HttpError as error:
            if error.resp.status == 400 and request.resumable_uri is not None:
                # httplib2 sent the chunk again after a break, and the server had a part of it: the next try asks which.
                raise ConnectionError("the upload lost its place") from error
            raise
        except OSError:
            if request.resumable_uri is not None:  # a slow line cannot send a large chunk within the time limit
                part.size_of_chunk = max(UNIT, part.size_of_chunk // 4 // UNIT * UNIT)
            raise

    answer = None
    while answer is None:
        answer = calls.run(what, next_chunk, lambda: request.resumable_progress)
    return answer


def receive(calls: Calls, request: Any, target: Path, what: str, chunk: int = CHUNK) -> None:
    """Download by this request of ``files.get_media`` into a file; goes on from the last whole chunk after a broken connection."""
    from googleapiclient.http import MediaIoBaseDownload

    try:
        file = open(target, "wb")
    except OSError as error:
        raise _unwritable(target, error) from error
    with file:
        loader = MediaIoBaseDownload(_Guarded(file, target), request, chunksize=chunk)
        done = False
        while not done:
            _, done = calls.run(what, lambda: loader.next_chunk(num_retries=0), file.tell)


class _Guarded:
    """A file whose errors are told from those of the connection: a full local disk is not tried again."""

    def __init__(self, file: Any, target: Path):
        self._file, self._target = file, target

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise _unwritable(self._target, error) from error


def _unwritable(target: Path, error: OSError) -> WriteError:
    full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
    return WriteError(f"{target} cannot be written: {error.strerror}{full}.")


def same(source: "Path | bytes", sha256: str, answer: dict[str, Any]) -> str:
    """Empty when the server has exactly these bytes, else what differs, in words."""
    size = _length(source)
    if int(answer.get("size", -1)) != size:
        return f"{answer.get('size', 'no')} bytes there, {size} here"
    if "sha256Checksum" in answer:
        return "" if answer["sha256Checksum"] == sha256 else "another sha256"
    if "md5Checksum" in answer:
        return "" if answer["md5Checksum"] == digest(source, "md5") else "another md5"
    return "the server gives no checksum"


def digest(source: "Path | bytes", kind: str = "sha256") -> str:
    """Of a file or of bytes, in hex."""
    if isinstance(source, bytes):
        return hashlib.new(kind, source, usedforsecurity=False).hexdigest()
    with open(source, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _length(source: "Path | bytes") -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except OSError as error:
        raise RemoteError(f"{source} cannot be read for the upload: {error.strerror}.") from error
