"""What a Checkpointer that is dropped without close() leaves in the process: nothing."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from gradnb.checkpoint import Checkpointer


def here() -> tuple[object, ...]:
    gc.collect()
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("gradnb")]
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return names, files


def test_a_dropped_checkpointer_keeps_no_model_thread_file_hook_or_handler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    came: list[int] = []
    own = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    before = here()
    kept = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(kept.parameters())
    dropped = []
    for _ in range(3):  # a notebook's cell that is run again and again
        model = nn.Linear(4, 4)
        ckpt = Checkpointer(tmp_path, every=1, quiet=True, resume=False).track(model=model, kept=kept, optimizer=optimizer)
        ckpt.resume()
        for _ in range(3):  # a loop of the user's own never says that it has ended
            kept(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            ckpt.step()
        ckpt.flush()
        for thread in threading.enumerate():
            if thread.name == "gradnb checkpoint writer":
                thread.join()
        dropped += [weakref.ref(model), weakref.ref(ckpt)]
        del model, ckpt
    assert here() == before
    try:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, own)
    assert came == [signal.SIGTERM] * 2 and not capsys.readouterr().out
    assert [ref() for ref in dropped] == [None] * 6
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_many_saves_make_nothing_grow(tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    ckpt = Checkpointer(tmp_path, every=1, keep_last=2, quiet=True).track(model=model)
    counts = []
    for at, _ in enumerate(ckpt.epochs(61)):
        with torch.no_grad():
            model.weight += 1
        if at % 30 == 0 and at:
            ckpt.flush()
            names, files, *_ = here()
            counts.append((len(os.listdir(tmp_path)), files))
            assert len(names) <= 1  # type: ignore[arg-type]
    assert counts[0] == counts[1]
