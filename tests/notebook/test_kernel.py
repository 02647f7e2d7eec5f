"""The magic in a real kernel of this environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from kernel_checks import KernelChecks
from kernel_session import Kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel(sys.executable)
    yield kernel
    kernel.close()


class TestKernel(KernelChecks):
    pass
