"""Forks writers that save checkpoints as fast as they can: a child costs milliseconds, because torch is imported already.

One line of JSON on stdin, ``{"path": ..., "keep_last": ...}``, makes one child. On stdout come ``pid N``, the number of each step
whose save has returned, and ``gone`` when the child has ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import State
from tests.checkpoint.states import newest_good

SIZE = 300_000
"""Numbers in a tensor: a file above the size from which hashing goes on beside the writing."""
BASE_STEPS = 7
"""After so many steps the tensor that is announced as settled changes all the same."""


def torn(step: int) -> State:
    """A state of which every number tells its step."""
    base = step // BASE_STEPS
    tensors = {
        "model/weight": torch.full((SIZE,), float(step)),
        "model/base": torch.full((SIZE // 2,), float(base)),
        "optimizer/exp_avg": torch.full((SIZE,), step, dtype=torch.int64),
        "optimizer/step": torch.tensor(step),
    }
    return State({"position": {"step": step}}, tensors, step=step, metrics={"step": float(step)}, settled=frozenset({"model/base"}))


def whole(state: State) -> bool:
    """Whether a state is that of one step."""
    return state.tree == {"position": {"step": state.step}} and all(
        bool((tensor == (state.step // BASE_STEPS if name == "model/base" else state.step)).all()) for name, tensor in state.tensors.items()
    )


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def save_on_and_on(path: str, keep_last: int) -> None:
    folder = Folder(Path(path), keep_last=keep_last)
    folder.open()
    found = newest_good(folder)
    step = found[1].step if found is not None else 0
    while True:
        step += 1
        folder.write(torn(step))
        say(str(step))


if __name__ == "__main__":
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            try:
                save_on_and_on(**json.loads(line))
            except BaseException as error:
                say(f"error {type(error).__name__}: {error}")
            os._exit(1)
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("gone")
