"""Runs a real broken training cell under %%gradcheck, as a notebook would, and writes the report as a page.

The cell is a TRPO agent whose critic is trained through its own rollout helper: no_grad, then NumPy, then a fresh
FloatTensor. PyTorch says "element 0 of tensors does not require grad" at backward(), far from the line at fault.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

import gradnb

HERE = Path(__file__).resolve().parent
PAGE = Path("demo-report.html")


def main() -> int:
    cell = "%%gradcheck\n" + (HERE / "demo_cell.py").read_text(encoding="utf-8")
    shell = InteractiveShell.instance()
    with contextlib.redirect_stdout(io.StringIO()):
        shell.run_line_magic("xmode", "Minimal")  # the traceback in one line, so that the report stays on the screen
    print("Running examples/demo_cell.py under %%gradcheck. First gradnb's report, then all that Python says about it.\n", flush=True)
    shell.run_cell("%load_ext gradnb", store_history=True)
    shell.run_cell(cell, store_history=True)

    report = gradnb.last_report()
    if report is None or not report.to_dict()["findings"]:
        print("gradnb found nothing, which is wrong: the cell is broken", file=sys.stderr)
        return 1
    report.to_html(str(PAGE))
    print(f"\nThe same report as a page: {PAGE.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
