"""What several files of this folder share: two gloo processes that load torch once for all their tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from rank_group import Group, group


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """As in a terminal, also where these tests run in the background of a shell, which has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def pair() -> Iterator[Group]:
    with group(2) as made:
        made.run("from rank_training import *")
        yield made
