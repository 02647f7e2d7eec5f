"""What stands around a loop of the user's: the notebook's cell it runs in, an ``enumerate`` that counts anew, other loaders."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

from . import untracked
from .items import generators
from .position import Course


def cell() -> int | None:
    """The number of the notebook's cell that runs now; None outside of notebooks."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "execution_count", None)


def counted_from() -> int | None:
    """Where the ``enumerate`` stands that asks for a batch now, also with tqdm in between; None without one."""
    for each in gc.get_objects():
        if type(each) is enumerate:
            arguments: Any = each.__reduce__()[1]
            inner, count = arguments
            if isinstance(inner, types.GeneratorType) and inner.gi_running:
                return int(count)
    return None


def passes() -> dict[int, int]:
    """How many batches each living iterator of a DataLoader has given."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    return {id(each): each._num_yielded for each in gc.get_objects() if issubclass(type(each), _BaseDataLoaderIter)}


def loaders(tracks: Callable[[Any], bool]) -> list[str]:
    """Sentences on DataLoaders that ``ckpt.batches`` does not go through, and that hold random generators of their own."""
    from torch.utils.data import DataLoader

    used = [each.loader for each in gc.get_objects() if type(each) is Course]
    ours = {id(each) for loader in used for each in [loader, *generators.find(loader)]}
    others = [each for each in gc.get_objects() if issubclass(type(each), DataLoader) and id(each) not in ours]
    found = [(weakref.ref(each), lost[0]) for each in others if (lost := _lost(each, ours, tracks))]
    names = untracked.variables({id(reference()) for reference, _ in found})
    del others
    if any(id(reference()) not in names for reference, _ in found):
        gc.collect()  # what an earlier run of the cell left in a cycle
    return [
        f"{name or 'a DataLoader'} holds a random generator of its own (a {kind}), which is not saved: a resumed run begins it anew. If "
        f"this training draws from it, write ckpt.batches({name or 'loader'}), or track it."
        for reference, kind in found
        if (each := reference()) is not None
        for name in [names.get(id(each))]
    ]


def _lost(loader: Any, ours: set[int], tracks: Callable[[Any], bool]) -> list[str]:
    return [type(one).__name__ for one in generators.find(loader) if id(one) not in ours and not tracks(one)]
