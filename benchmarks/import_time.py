"""What importing gradnb costs somebody who has imported torch already.

    python benchmarks/import_time.py [--check] [--quick]

Each round is a new process that imports torch, then IPython (both are there in a notebook), then gradnb, and loads the extension.
Seconds are the fewest of all rounds, since what else the machine does only ever adds; the ratio, to the import of torch in the same
process, is the median. The first round is not counted: it reads the files from disk and compiles them. The last line is JSON;
--check exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from figures import end  # noqa: E402

LIMITS = {"import-seconds": 0.3, "import-ratio": 0.15, "load-seconds": 0.3}
ROUNDS = 9

ROUND = """
import json, time
marks = [time.perf_counter()]
def mark(): marks.append(time.perf_counter())
import torch; mark()
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(); mark()
import gradnb; mark()
shell.run_line_magic("load_ext", "gradnb"); mark()
torch_took, _, own, load = (after - before for before, after in zip(marks, marks[1:]))
print(json.dumps({"torch-seconds": torch_took, "import-seconds": own, "import-ratio": own / torch_took, "load-seconds": load}))
"""


def one() -> dict[str, float]:
    ran = subprocess.run([sys.executable, "-c", ROUND], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is over its limit")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    args = parser.parse_args()
    one()
    rounds = [one() for _ in range(3 if args.quick else ROUNDS)]
    columns = {name: [found[name] for found in rounds] for name in rounds[0]}
    figures = {name: round(min(column) if name.endswith("-seconds") else statistics.median(column), 4) for name, column in columns.items()}
    for name, value in figures.items():
        print(f"{name:<18}{value:7.3f}" + (f"   limit {LIMITS[name]:g}" if name in LIMITS else ""))
    over = [f"{name} {figures[name]:.3f} (limit {limit:g})" for name, limit in LIMITS.items() if figures[name] > limit]
    return end(figures, over, args.check)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
