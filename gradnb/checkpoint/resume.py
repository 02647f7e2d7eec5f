"""Which checkpoint to go on from: the newest good one, here or on the remote store; what is damaged is named and left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import CheckpointError, DamagedError, NoCheckpointError, RemoteError
from .model import Damage, Manifest, State
from .words import damaged, plural

if TYPE_CHECKING:
    from .folder import Folder
    from .mirror import Mirror


@dataclass
class Found:
    """What ``newest`` took, and what it left out."""

    state: State
    manifest: Manifest
    damage: list[Damage] = field(default_factory=list)
    remote: bool = False


class Search:
    """Looks through the local folder and the remote store of one Checkpointer."""

    def __init__(self, folder: "Folder", mirror: "Mirror | None", say: Callable[[str], None]):
        self._folder, self._mirror, self._say = folder, mirror, say
        self.known: list[Manifest] = []
        """Those of both places, newest first, as the last search saw them."""

    def all(self) -> tuple[list[Manifest], dict[int, str]]:
        """Newest first, and of those that are not in both places, by serial, where they are.

        A remote that cannot be read is told in one line.
        """
        here, there, blind = self._look()
        if blind is not None:
            self._say(self._told(blind))
        where = dict.fromkeys(there.keys() - here.keys(), "not on this machine")
        if there:
            where |= dict.fromkeys(here.keys() - there.keys(), "only on this machine")
        return self.known, where

    def newest(self) -> Found | None:
        """None when there is certainly no checkpoint.

        DamagedError when there are some and none can be read; RemoteError when nobody can know.
        """
        damage = list(self._folder.damaged())
        here, there, blind = self._look()
        damage += self._mirror.damaged() if self._mirror is not None and blind is None else []
        for serial in sorted({*here, *there}, reverse=True):
            for remote, one in ((False, here.get(serial)), (True, there.get(serial))):
                if one is None:
                    continue
                try:
                    manifest = self._fetch(one) if remote else one
                    state = self._folder.read(manifest)
                except DamagedError as error:
                    damage += error.damage or [Damage(one.id, "", str(error))]
                except RemoteError as error:
                    blind = blind or error
                else:
                    if blind is not None:
                        self._say(f"{self._told(blind)} Going on from what this machine has.")
                    return Found(state, manifest, damage, remote)
        if blind is not None:
            raise RemoteError(
                f"{blind} So it is not known whether there is a checkpoint to go on from. Run the cell again when the store can be "
                "reached, or give resume=False to begin anew.",
                again=blind.again,
            ) from blind
        if here or there or damage:
            raise DamagedError(
                f"There are checkpoints in {self._folder.path}, and none can be read: {damaged(damage)}. resume=False begins anew and "
                "leaves them until their slots are needed.",
                damage,
            )
        return None

    def one(self, id: str | int | Manifest) -> tuple[State, Manifest]:
        """The checkpoint of this id, wherever it is. NoCheckpointError names those there are."""
        here, there, blind = self._look()
        if blind is not None:
            self._say(self._told(blind))
        serial = id.serial if isinstance(id, Manifest) else _serial(id)
        if serial in here:
            try:
                return self._folder.read(here[serial]), here[serial]
            except DamagedError:
                if serial not in there:
                    raise
        if serial in there:
            manifest = self._fetch(there[serial])
            return self._folder.read(manifest), manifest
        known = ", ".join(f"{one.id} (step {one.step})" for one in self.known[:10]) or "none"
        raise NoCheckpointError(f"There is no checkpoint {id!r} in {self._folder.path}; there are: {known}.")

    def verify(self) -> tuple[list[Manifest], list[Damage]]:
        """Reads every file of every checkpoint on this machine."""
        manifests = list(self._folder.manifests())
        damage = list(self._folder.damaged())
        for one in manifests:
            damage += self._folder.verify(one)
        return manifests, damage

    def _look(self) -> tuple[dict[int, Manifest], dict[int, Manifest], RemoteError | None]:
        """What is here and what is in the store, by serial; and why the store could not be asked."""
        here, there, blind = {one.serial: one for one in self._folder.manifests()}, {}, None
        try:
            there = {one.serial: one for one in self._mirror.candidates()} if self._mirror is not None else {}
        except RemoteError as error:
            blind = error
        self.known = sorted((there | here).values(), key=lambda one: -one.serial)
        return here, there, blind

    def _told(self, blind: RemoteError) -> str:
        return self._mirror.in_words(blind) if self._mirror is not None else str(blind)

    def _fetch(self, manifest: Manifest) -> Manifest:
        if self._mirror is None:
            raise CheckpointError("There is no remote store to fetch from.")
        return self._mirror.fetch(manifest)


def _serial(id: str | int) -> int:
    try:
        return int(id)
    except (TypeError, ValueError):
        raise NoCheckpointError(f"{id!r} is no checkpoint's id; an id such as 000042, or one of ckpt.list(), is expected.") from None


def left_out(found: Found) -> str:
    """For the line that says what was resumed; empty where all was well."""
    if not found.damage:
        return ""
    return f"; left out {plural(len({one.what for one in found.damage}), 'damaged checkpoint')}: {damaged(found.damage)}"
