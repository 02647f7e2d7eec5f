"""Which frames are the user's, and how a running frame becomes a Location afterwards.

While recording only ``(code object, last instruction)`` pairs are kept; lines, columns and source text are worked out when
the run is over, because formatting while recording is what makes other recorders slow.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Mapping
from inspect import CO_OPTIMIZED
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

from .recording import Location

SKIP, USER, STOP, MODULE = 0, 1, 2, 3  # MODULE: the recorder's own wrapper around a module call
CLOSURE = "closure"  # the closure that an optimizer runs: what it calls is training, not the optimizer's own work

# Library code that changes what an operation inside it means; met on the way to the user's frame, it is noted as "via".
_VIA_FILES = {
    os.path.join("torch", "distributions"): "torch.distributions",
    os.path.join("torch", "optim"): "torch.optim",
    os.path.join("nn", "utils", "clip_grad.py"): "clip_grad",
    os.path.join("torch", "nn", "init.py"): "torch.nn.init",
    os.path.join("amp", "grad_scaler.py"): "GradScaler",
    os.path.join("torch", "utils", "checkpoint.py"): "torch.utils.checkpoint",
    os.path.join("torch", "_functorch"): "torch.func",
}
_VIA_FUNCTIONS = {
    "__deepcopy__": "deepcopy",
    "_apply": "module.to",
    "_save_to_state_dict": "state_dict",
    "_load_from_state_dict": "load_state_dict",
}

Site = tuple[CodeType, int]


def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    found.add(os.path.dirname(os.path.dirname(torch.__file__)))
    found.add(os.path.dirname(os.path.dirname(os.__file__)))
    return tuple(os.path.join(os.path.realpath(p), "") for p in found) + tuple(os.path.join(p, "") for p in found)


class Frames:
    """Classifies code objects and walks the stack of the user's frames."""

    def __init__(self, runners: set[CodeType] | None = None):
        self._own = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
        self._libraries = _library_folders()
        # by identity: a code object's own hash reads all of its constants, at every look-up
        self.codes: dict[int, int | str] = {id(code): STOP for code in (runners or ())}
        self._kept: list[CodeType] = list(runners or ())

    def mark(self, code: CodeType, kind: int | str) -> None:
        if self.codes.get(id(code)) != kind:
            self.codes[id(code)] = kind
            self._kept.append(code)

    def learn(self, code: CodeType) -> int | str:
        """SKIP, USER, STOP, or the name of the library that the code belongs to where that matters."""
        name = code.co_filename
        found: int | str = USER
        if (
            name.startswith(self._own)
            or name.startswith("<frozen")
            or name.startswith("<string>")
            or name.startswith("<__array_function__")
        ):
            found = SKIP
        elif name.startswith("<") and not name.startswith("<ipython-input"):
            found = USER if name in linecache.cache else SKIP
        elif name.startswith(self._libraries):
            found = self._via(name, code.co_name)
        self.codes[id(code)] = found
        self._kept.append(code)
        return found

    @staticmethod
    def _via(name: str, function: str) -> int | str:
        if os.sep + "torch" + os.sep not in name:
            return SKIP
        if function in _VIA_FUNCTIONS:
            return _VIA_FUNCTIONS[function]
        for part, via in _VIA_FILES.items():
            if part in name:
                return via
        return SKIP

    def of_traceback(self, traceback: TracebackType | None) -> tuple[Site, ...]:
        """The user's frames of an exception, innermost first."""
        sites: list[Site] = []
        while traceback is not None:
            code = traceback.tb_frame.f_code
            found = self.codes.get(id(code))
            if found is None:
                found = self.learn(code)
            if found == USER:
                sites.append((code, traceback.tb_lasti))
            traceback = traceback.tb_next
        return tuple(reversed(sites))


def user_frame(frames: Frames, depth: int = 1) -> FrameType | None:
    """The nearest running frame of the user's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        found = frames.codes.get(id(code))
        if found is None:
            found = frames.learn(code)
        if found == USER:
            return frame
        if found == STOP:
            return None
        frame = frame.f_back
    return None


class Places:
    """Turns sites into Locations, once each."""

    def __init__(self, cells: dict[str, int]):
        self.cells = cells
        self.locations: list[Location] = []
        self.sources: dict[str, str] = {}
        self._index: dict[tuple[int, int], int] = {}  # by identity of the code object, like Frames.codes
        self._stacks: dict[tuple[tuple[int, int], ...], tuple[int, ...]] = {}
        self._positions: dict[int, list] = {}

    def read_cells(self) -> None:
        """Take in the source of every cell: a fault can stand in one that no recorded frame passed through."""
        for filename in self.cells:
            if filename not in self.sources:
                self.sources[filename] = "".join(linecache.getlines(filename))

    def stack(self, sites: tuple[Site, ...]) -> tuple[int, ...]:
        key = tuple([(id(code), lasti) for code, lasti in sites])
        found = self._stacks.get(key)
        if found is None:
            found = self._stacks[key] = tuple(self.site(s) for s in sites)
        return found

    def site(self, site: Site) -> int:
        key = (id(site[0]), site[1])
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.locations)
            self.locations.append(self._locate(*site))
        return found

    def at(
        self, filename: str, line: int, function: str, column: int | None = None, end_line: int | None = None, end_column: int | None = None
    ) -> int:
        """A site that was found in the source rather than in a running frame."""
        self.locations.append(self._location(filename, line, end_line, column, end_column, function))
        return len(self.locations) - 1

    def _locate(self, code: CodeType, lasti: int) -> Location:
        positions = self._positions.get(id(code))
        if positions is None:
            positions = self._positions[id(code)] = list(code.co_positions())
        at = lasti // 2
        line, end_line, column, end_column = positions[at] if 0 <= at < len(positions) else (None, None, None, None)
        return self._location(code.co_filename, line or code.co_firstlineno, end_line, column, end_column, code.co_name)

    def _location(
        self, filename: str, line: int, end_line: int | None, column: int | None, end_column: int | None, function: str
    ) -> Location:
        if filename not in self.sources:
            lines = linecache.getlines(filename)
            self.sources[filename] = "".join(lines)
        text = linecache.getline(filename, line).strip()
        cell = self.cells.get(filename)
        file = None if cell is not None else filename
        return Location(cell, file, line, function, text, end_line, column, end_column, filename)


def visible_names(frame: FrameType) -> Mapping[str, Any]:
    """What the code of a frame can see: its locals over its globals."""
    own = own_names(frame)
    return own if own is frame.f_globals else {**frame.f_globals, **own}


def own_names(frame: FrameType) -> Mapping[str, Any]:
    """The locals of a frame, for a function's as a copy that keeps nothing alive."""
    here = frame.f_locals
    if here is frame.f_globals:
        return here
    found = dict(here)
    # Up to Python 3.12 the frame of a function keeps this copy of its names, and what it holds would outlive a `del`; but locals()
    # that the user has kept is the same dict.
    if frame.f_code.co_flags & CO_OPTIMIZED and type(here) is dict and sys.getrefcount(here) <= 3:
        here.clear()
    return found
