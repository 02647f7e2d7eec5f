"""Checkpoints that several processes write together: each its own files, one manifest by rank 0, written when all of them are there.

A process writes what only it has: tensors that rank 0 has with the same bytes (a replicated model) are written by rank 0 alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import disk, random_states, slots
from .content import failure
from .errors import CheckpointError, WriteError
from .folder import Folder
from .manifest import VOID, parse, render
from .model import FileRecord, Manifest, State
from .ranks import LIMIT, Rank
from .shards import Read, gather
from .shared import fingerprint

_TOGETHER = "every process must call save() and step() at the same steps"


class RankFolder(Folder):
    """The folder of one process among several. Every process calls ``open`` and ``write`` equally often; the rest as it likes."""

    def __init__(
        self, rank: Rank, path: "str | os.PathLike[str]", keep_last: int = 5, keep_best: slots.KeepBest | None = None, limit: float = LIMIT
    ):
        super().__init__(path, keep_last, keep_best)
        self._rank, self._limit = rank, limit
        self._saves = 0

    def open(self) -> list[str]:
        """Rank 0 opens and cleans it; UsageError on every process where one of them does not see the same folder."""
        found = self._rank.together("open", super().open if self._rank.rank == 0 else lambda: [])
        try:
            self._rank.same_folder(self.path)
        except Exception:
            self.close()
            raise
        return found

    def close(self) -> None:
        if self._rank.rank == 0:
            super().close()

    def read(self, manifest: Manifest, rank: int | None = None) -> State:
        """This process's state. Rank 0 checks every file of all processes, the others those that they read whole."""
        if rank is not None:
            return super().read(manifest, rank)
        return joined(self, manifest, self._rank.rank)

    def write(self, state: State, pinned: Collection[int] = ()) -> Manifest:
        """Write this process's files; rank 0 commits when those of all are there. WriteError on every process where one of them failed."""
        try:
            return self._lead(state, pinned) if self._rank.rank == 0 else self._follow(state)
        except CheckpointError as error:
            raise error if isinstance(error, WriteError) else WriteError(f"The checkpoint was not written: {error}.") from error

    def skip(self, step: int, why: str) -> None:
        """Instead of ``write``, where this process cannot: the others are told, and do not wait."""
        if self._rank.rank == 0:
            self._refuse(self._key(self._saves), step, why)
            self._saves += 1
        else:
            self._answer({"error": why})

    def _lead(self, state: State, pinned: Collection[int]) -> Manifest:
        key = self._key(self._saves)
        self._saves += 1
        nbytes = sum(tensor.nbytes for tensor in state.tensors.values())
        slot: int | None = None
        try:
            slot, serial = self.begin(pinned, nbytes)
            with self._undone(nbytes):
                shards = state.tree.get("shards", {})
                same = {name: fingerprint(tensor) for name, tensor in state.tensors.items() if name not in shards}
                self._rank.tell(f"{key}/open", {"slot": slot, "serial": serial, "step": state.step, "same": same})
                records = [*self.put(slot, serial, state), *self._others(key)]
                manifest = self.commit(slot, serial, state, records, self._rank.world)
        except Exception as error:
            if slot is not None:  # a process that is late may still write there: a void manifest says that the slot is ours
                with contextlib.suppress(OSError):
                    disk.overwrite(self.path / slots.place(slot, slots.MANIFEST), [VOID])
            self._refuse(key, state.step, str(error))
            raise
        self._rank.tell(f"{key}/done", {"manifest": render(manifest).decode("ascii")})
        before = self._key(self._saves - 2)  # all have heard of its end, for all have written for this one
        self._rank.forget(f"{before}/open", f"{before}/done", *(f"{before}/part/{rank}" for rank in range(1, self._rank.world)))
        return manifest

    def _refuse(self, key: str, step: int, why: str) -> None:
        self._rank.tell(f"{key}/open", {"step": step, "error": why})
        self._rank.tell(f"{key}/done", {"error": why})

    def _others(self, key: str) -> list[FileRecord]:
        records = []
        for rank in range(1, self._rank.world):
            said = self._rank.hear(f"{key}/part/{rank}", self._limit, f"rank {rank}")
            if "error" in said:
                raise WriteError(f"rank {rank}: {said['error']}")
            records += [FileRecord(*record) for record in said["files"]]
        return records

    def _follow(self, state: State) -> Manifest:
        said = self._rank.hear(f"{self._key(self._saves)}/open", self._limit)
        while said["step"] < state.step:  # rank 0 alone has saved: it must not wait for this process
            self._answer({"error": f"it did not save step {said['step']}; {_TOGETHER}"})
            said = self._rank.hear(f"{self._key(self._saves)}/open", self._limit)
        if said["step"] > state.step:
            raise WriteError(f"rank 0 did not save step {state.step}; {_TOGETHER}")
        key = self._key(self._saves)
        self._answer(self._part(state, said) if "slot" in said else {})
        said = self._rank.hear(f"{key}/done", self._limit)
        if "error" in said:
            raise WriteError(said["error"])
        return parse(said["manifest"].encode("ascii"))

    def _answer(self, part: dict[str, Any]) -> None:
        self._rank.tell(f"{self._key(self._saves)}/part/{self._rank.rank}", part)
        self._saves += 1

    def _part(self, state: State, said: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files of this process; their records, or why they could not be written."""
        own = state.tree.get("shards", {})
        different = {name: tensor for name, tensor in state.tensors.items() if name in own or said["same"].get(name) != fingerprint(tensor)}
        try:
            records = self.put(said["slot"], said["serial"], replace(state, tensors=different), self._rank.rank)
        except OSError as error:
            return {"error": f"{error.strerror or error} ({self.path})"}
        except Exception as error:  # else rank 0 would wait for it until the time limit
            return {"error": f"{type(error).__name__}: {error}"}
        return {"files": [astuple(record) for record in records]}

    def _key(self, number: int) -> str:
        return f"save/{number}"


def joined(folder: Folder, manifest: Manifest, rank: int = 0) -> State:
    """The state of process ``rank`` from a checkpoint that another number of processes may have written.

    Sharded tensors come as ``shards.Pieces``, of which a part is read when it is known which. DamagedError where a file is damaged.
    """
    if rank == 0 and (damage := folder.verify(manifest)):
        raise failure(damage)
    first = folder.read(manifest, 0)
    own = folder.read(manifest, rank) if 0 < rank < manifest.world else first
    parts = {each: folder.places(manifest, each) for each in range(manifest.world)}
    files = _Files()
    saved = gather(
        {each: tree.get("shards", {}) for each, (tree, _) in parts.items()},
        lambda each, name: files.reader(parts[each][1][name], name) if name in parts[each][1] else None,
    )
    tree = own.tree if rank < manifest.world else {**own.tree, "random": random_states.capture()}
    return replace(own, tree=tree, tensors={**first.tensors, **own.tensors, **saved})  # type: ignore[dict-item]


class _Files:
    """Reads parts of tensors out of safetensors files, each opened once."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def reader(self, path: Path, name: str) -> Read:
        def read(slices: tuple[slice, ...]) -> Tensor:
            if path not in self._open:
                from safetensors import safe_open

                self._open[path] = safe_open(path, framework="pt")  # type: ignore[no-untyped-call]
            file = self._open[path]
            return file.get_slice(name)[slices] if slices else file.get_tensor(name)

        return read
