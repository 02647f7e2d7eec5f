"""The folder on Drive: found by its path or made once, although Drive allows many of one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UsageError
from .drive_http import Calls
from .drive_path import MY_DRIVE
from .errors import RemoteError

FOLDER = "application/vnd.google-apps.folder"
FILE = "application/octet-stream"
MARK = {"gradnb": "checkpoints"}
"""An appProperty on what gradnb made: seen by the application that set it only."""


class Tree:
    """Folders and files by name, below the root of My Drive. ``files()`` gives the ``files`` collection of the calling thread's client."""

    def __init__(self, name: str, path: Sequence[str], calls: Calls, files: Callable[[], Any]):
        if path[0] != MY_DRIVE:
            raise UsageError(f"{name}: the Drive API reaches folders below MyDrive only; mount Drive for {path[0]}.")
        self._name, self._path, self._calls, self._files = name, tuple(path[1:]), calls, files

    def find(self) -> str | None:
        """The folder's id; None where there is none. RemoteError when several hold checkpoints."""
        levels = self._walk()
        return self._choose(levels[-1]) if len(levels) == len(self._path) else None

    def make(self) -> str:
        """The folder's id; what is missing on the way is made."""
        levels = self._walk()
        if len(levels) == len(self._path):
            return self._choose(levels[-1])
        parent = marked(levels[-1])[0]["id"] if levels else "root"
        for part in self._path[len(levels) :]:
            parent = self.create(part, parent, FOLDER)
        return parent

    def children(self, folder: str) -> list[dict[str, Any]]:
        """The files in it, newest first."""
        return self._search(f"'{folder}' in parents and mimeType != '{FOLDER}' and trashed = false")

    def create(self, name: str, parent: str, kind: str) -> str:
        """An empty file or folder, exactly one however often the request is sent: its id is fixed before. Returns the id."""
        from googleapiclient.errors import HttpError

        what = f"making {name}"
        id = self._calls.run(what, self._files().generateIds(count=1, space="drive", type="files").execute)["ids"][0]
        body = {"id": id, "name": name, "parents": [parent], "mimeType": kind, "appProperties": MARK}
        try:
            self._calls.run(what, self._files().create(body=body, fields="id").execute)
        except HttpError as error:
            if error.resp.status != 409:  # 409: an earlier try did make it, only its answer was lost
                raise
        return id

    def _walk(self) -> list[list[dict[str, Any]]]:
        """Of each part of the path the folders with that name, as far as there are any; of duplicates all are followed."""
        levels: list[list[dict[str, Any]]] = []
        parents = ["root"]
        for part in self._path:
            above = " or ".join(f"'{parent}' in parents" for parent in parents)
            found = self._search(f"name = '{_quoted(part)}' and mimeType = '{FOLDER}' and trashed = false and ({above})")
            if not found:
                break
            levels.append(found)
            parents = [folder["id"] for folder in found]
        return levels

    def _choose(self, found: list[dict[str, Any]]) -> str:
        """Of several the one that holds checkpoints; else one of ours, the newest."""
        if len(found) > 1:
            holding = [folder for folder in found if any(_committed(child) for child in self.children(folder["id"]))]
            if len(holding) > 1:
                links = ", ".join(f"https://drive.google.com/drive/folders/{folder['id']}" for folder in holding)
                raise RemoteError(
                    f"{self._name} is ambiguous: {len(holding)} folders of this name hold checkpoints ({links}). "
                    "Rename or delete all but one.",
                    again=False,
                )
            found = holding or found
        return marked(found)[0]["id"]

    def _search(self, query: str) -> list[dict[str, Any]]:
        """All pages, newest first."""
        found: list[dict[str, Any]] = []
        page = None
        fields = "nextPageToken,files(id,name,size,sha256Checksum,md5Checksum,modifiedTime,appProperties)"
        while True:
            request = self._files().list(q=query, pageSize=1000, pageToken=page, spaces="drive", orderBy="modifiedTime desc", fields=fields)
            answer = self._calls.run("listing the folder", request.execute)
            found += answer.get("files", [])
            page = answer.get("nextPageToken")
            if not page:
                return found


def marked(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that gradnb made first, else in the order given."""
    return sorted(found, key=lambda one: not is_ours(one))


def is_ours(one: dict[str, Any]) -> bool:
    return MARK.items() <= (one.get("appProperties") or {}).items()


def _committed(child: dict[str, Any]) -> bool:
    return child["name"].endswith(".manifest") and int(child.get("size", 0)) > 0


def _quoted(text: str) -> str:
    """For a string in a query of files.list."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
