"""Small states for tests: every tensor carries the number of its step, so that a mixture of two steps shows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gradnb.checkpoint.errors import DamagedError
from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import Manifest, State
from gradnb.checkpoint.tensors import memory


def state(step: int, size: int = 1000, base: int | None = None, **metrics: float) -> State:
    """Two tensors of `size` numbers that move; with `base`, one more that is settled and carries that number."""
    tensors = {"model/weight": torch.full((size,), float(step)), "optimizer/exp_avg": torch.full((size,), step, dtype=torch.int64)}
    if base is not None:
        tensors["model/base"] = torch.full((size, 2), float(base))
    settled = frozenset({"model/base"} if base is not None else ())
    return State({"position": {"step": step}}, tensors, step=step, metrics=metrics, settled=settled)


def filled(path: Path, steps: int, base: int | None = None, **options: object) -> Folder:
    """An open folder with the checkpoints of the steps 1 to `steps`."""
    folder = Folder(path, **options)  # type: ignore[arg-type]
    folder.open()
    for step in range(1, steps + 1):
        folder.write(state(step, base=base))
    return folder


def same(one: State, other: State) -> bool:
    """Equal to the last bit: tree, names in their order, dtypes, shapes, bytes."""
    return (
        one.tree == other.tree
        and (one.step, one.epoch, one.batch, one.reason) == (other.step, other.epoch, other.batch, other.reason)
        and list(one.tensors) == list(other.tensors)
        and all(_bits(tensor) == _bits(other.tensors[name]) for name, tensor in one.tensors.items())
    )


def _bits(tensor: Tensor) -> tuple[object, ...]:
    return tensor.dtype, tuple(tensor.shape), bytes(memory(tensor))


def newest_good(folder: Folder) -> tuple[Manifest, State] | None:
    """What a resume takes: the newest checkpoint that can be read whole."""
    for manifest in folder.manifests():
        try:
            return manifest, folder.read(manifest)
        except DamagedError:
            continue
    return None


def steps(folder: Folder) -> list[int]:
    """The steps of its checkpoints, newest first."""
    return [manifest.step for manifest in folder.manifests()]


def content(path: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}
