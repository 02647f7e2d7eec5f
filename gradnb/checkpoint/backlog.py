"""What a remote store lacks of a folder: the newest checkpoint, then the best one."""

from __future__ import annotations

from . import slots
from .errors import RemoteError
from .folder import Folder
from .model import Manifest
from .replica import Replica


class Backlog:
    """Of one folder and one store; called ``name`` in errors."""

    def __init__(self, folder: Folder, replica: Replica, name: str):
        self._folder, self._replica, self._name = folder, replica, name
        self._mine: set[int] = set()  # serials that were saved by this process
        self._sent: set[int] = set()  # and that it brought there
        self._bad: set[int] = set()  # that cannot be read here

    def saved(self, manifest: Manifest) -> None:
        """This process has written it."""
        self._mine.add(manifest.serial)

    def sent(self, manifest: Manifest) -> None:
        """It is there."""
        self._sent.add(manifest.serial)

    def is_at_fault(self, manifest: Manifest) -> bool:
        """After it could not be sent: is the local checkpoint overwritten or damaged? Then it is not asked for again."""
        there = any((one.slot, one.serial) == (manifest.slot, manifest.serial) for one in self._folder.manifests())
        if there and not self._folder.verify(manifest):
            return False
        self._bad.add(manifest.serial)
        return True

    def next(self, local: list[Manifest], newest: Manifest | None) -> Manifest | None:
        """What to send now, of the folder's checkpoints. RemoteError when another run's checkpoints are in the way."""
        there = self._replica.manifests
        if newest is not None and self._lacks(newest) and self._is_newer(newest, there):
            return newest
        best = slots.best({one.serial: one for one in [*there, *local]}.values(), self._folder.keep_best)
        return best if best is not None and best in local and self._lacks(best) else None

    def number_after(self, there: list[Manifest]) -> None:
        """The next local checkpoints get higher numbers than these."""
        top = max((one.serial for one in there), default=0)
        if top > max((one.serial for one in self._folder.manifests()), default=0):
            self._folder.after(top)

    def _lacks(self, manifest: Manifest) -> bool:
        return manifest.serial not in self._bad and not self._replica.has(manifest)

    def _is_newer(self, newest: Manifest, there: list[Manifest]) -> bool:
        """Than all that is there. What an earlier run left in this folder may be older; what this run saved must not."""
        top = max((one.serial for one in there), default=-1)
        if newest.serial > top or newest.serial not in self._mine:
            return newest.serial > top
        if self._sent:
            raise RemoteError(
                f"Another run writes checkpoints into {self._name}: {top:06d} came there from elsewhere. "
                "Give each run a folder of its own.",
                again=False,
            )
        self.number_after(there)
        raise RemoteError(
            f"{self._name} has checkpoints of an earlier run up to {top:06d}: the next one here is numbered after them.", again=False
        )
