"""What several files of this folder share: two gloo processes that load torch once for all their tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rank_group import Group, group


@pytest.fixture(scope="session")
def pair() -> Iterator[Group]:
    with group(2) as made:
        made.run("from rank_training import *")
        yield made
