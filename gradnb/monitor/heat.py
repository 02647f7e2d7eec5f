"""The heat map as a tiny picture: one colour a cell, on a logarithmic scale. Zero and NaN look like nothing else."""

from __future__ import annotations

import math
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVELS = 24
DECADES = 8.0  # below the largest; what is smaller has the lowest colour, and its number says how small
UNKNOWN, ZERO, BAD, LOWEST = 0, 1, 2, 3
# Viridis, which keeps its order for colour-blind readers and in grey.
_STOPS = ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6dcd59", "b4de2c", "fde725")
_TALL = 8  # picture rows a layer where layers are set apart: seven of colour, one empty


@dataclass(frozen=True, slots=True)
class Scale:
    """Powers of ten at the two ends of the colours."""

    low: float
    high: float


def scale(values: Any) -> Scale:
    """What the finite numbers above zero cover, in whole decades."""
    seen = values[(values > 0) & np.isfinite(values)]
    if not seen.size:
        return Scale(-4.0, 0.0)
    high = math.ceil(math.log10(float(seen.max())) - 1e-9)
    low = math.floor(math.log10(float(seen.min())) + 1e-9)
    return Scale(max(low, high - DECADES), high) if low < high else Scale(high - 1.0, high)


def levels(values: Any, on: Scale) -> Any:
    """A uint8 a cell: UNKNOWN, ZERO, BAD, or LOWEST and up to LOWEST + LEVELS - 1."""
    with np.errstate(all="ignore"):
        place = (np.log10(values) - on.low) * (LEVELS / (on.high - on.low))
    place = np.where(np.isfinite(place), place, 0.0)
    found = (np.clip(place, 0, LEVELS - 1) + LOWEST).astype(np.uint8)
    found[values == 0] = ZERO
    found[values < 0] = UNKNOWN
    found[~np.isfinite(values)] = BAD
    return found


def folded(cells: Any, rows: int) -> Any:
    """Neighbouring layers together, at most ``rows``; of those that share a row trouble wins, then the largest."""
    if len(cells) <= rows:
        return cells
    rank = np.array([0, 254, 255, *range(1, LEVELS + 1)], dtype=np.uint8)
    back = np.zeros(256, dtype=np.uint8)
    back[rank] = np.arange(len(rank))
    starts = np.arange(rows) * len(cells) // rows
    return back[np.maximum.reduceat(rank[cells], starts, axis=0)]


def image(cells: Any, apart: bool) -> str:
    """The cells as a PNG in a data URI; ``apart`` leaves a gap between layers, and draws zeros as a thin line."""
    if apart:
        tall = np.repeat(cells, _TALL, axis=0).reshape(len(cells), _TALL, -1)
        tall[:, (0, 1, 2, 5, 6)] = np.where(tall[:, (0, 1, 2, 5, 6)] == ZERO, UNKNOWN, tall[:, (0, 1, 2, 5, 6)])
        tall[:, _TALL - 1] = UNKNOWN
        cells = tall.reshape(len(cells) * _TALL, -1)
    return "data:image/png;base64," + b64encode(png(cells)).decode("ascii")


def png(cells: Any) -> bytes:
    """An indexed PNG of these palette numbers."""
    height, width = cells.shape
    raw = np.zeros((height, width + 1), dtype=np.uint8)  # each line begins with its filter: none
    raw[:, 1:] = cells
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = zlib.compress(raw.tobytes(), 2)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", head), (b"PLTE", _PALETTE), (b"tRNS", b"\0"), (b"IDAT", body), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def colour(place: float) -> tuple[int, int, int]:
    """The colour at a place from 0 to 1."""
    at = min(max(place, 0.0), 1.0) * (len(_STOPS) - 1)
    index = min(int(at), len(_STOPS) - 2)
    one, two = (bytes.fromhex(stop) for stop in _STOPS[index : index + 2])
    return tuple(round(a + (b - a) * (at - index)) for a, b in zip(one, two))  # type: ignore[return-value]


def ramp() -> str:
    """The colours from low to high as a picture of one line, for a legend."""
    return "data:image/png;base64," + b64encode(png(np.arange(LOWEST, LOWEST + LEVELS, dtype=np.uint8)[None])).decode("ascii")


_PALETTE = bytes.fromhex("000000999999d55e00") + b"".join(bytes(colour(i / (LEVELS - 1))) for i in range(LEVELS))
