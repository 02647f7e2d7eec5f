"""A cell that ends its own process: nothing can be shown, and nothing may hang."""

from __future__ import annotations

import sys
import time

from kernel_session import Kernel


def test_a_cell_that_calls_os_exit_ends_the_kernel_and_the_next_one_works() -> None:
    kernel = Kernel(sys.executable)
    try:
        assert kernel.run("%load_ext gradnb").status == "ok"
        kernel.client.execute("%%gradcheck\nimport os, torch\ntorch.ones(1, requires_grad=True).sum().backward()\nos._exit(3)")
        end = time.monotonic() + 60
        while kernel.manager.is_alive():
            assert time.monotonic() < end, "the kernel still runs"
            time.sleep(0.05)
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=120)
        ran = kernel.run("%load_ext gradnb\n1 + 1")
        assert (ran.status, ran.results) == ("ok", ["2"])
    finally:
        kernel.close()
