"""check_score.py SCORE.json: exits 1 when the tool is worse on the case collection than we promise.

SCORE.json is what score.py writes; without --fast it also holds whether each cell that runs leaves the same bits as a bare run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SOLVED, FOUND, QUIET = 0.90, 0.95, 0.95

Row = dict[str, Any]


def share(rows: list[Row], key: str, least: float, name: str) -> tuple[bool, str]:
    """Whether enough rows have `key`, and a line that says so. No rows at all is a failure: then nothing was measured."""
    good = sum(bool(row[key]) for row in rows)
    ok = bool(rows) and good >= least * len(rows)
    misses = "" if good == len(rows) else "  not: " + " ".join(row["id"] for row in rows if not row[key])
    return ok, f"{name} {good}/{len(rows)}, wanted {least:.0%}{misses}"


def none_of(rows: list[Row], key: str, name: str) -> tuple[bool, str]:
    bad = [row for row in rows if row[key]]
    return bool(rows) and not bad, f"{name} {len(bad)}/{len(rows)}, wanted 0" + "".join(f"  {row['id']}: {row[key]}" for row in bad)


def check(rows: list[Row]) -> list[tuple[bool, str]]:
    """Each promise as (kept, line)."""
    bugs = [row for row in rows if row["family"] != "healthy"]
    healthy = [row for row in rows if row["family"] == "healthy"]
    graph = [row for row in bugs if row["family"] == "graph"]
    results = [
        share(bugs, "solved", SOLVED, "all: solved"),
        share(bugs, "found", FOUND, "all: found"),
        share(graph, "solved", SOLVED, "graph: solved"),
        none_of(healthy, "alarm", "healthy: alarms"),
        share([row for row in bugs if row["quiet"] is not None], "quiet", QUIET, "repaired: quiet"),
        none_of(rows, "crash", "all: crashes"),
    ]
    compared = [row for row in rows if row["same"] is not None]
    if compared:
        results.append(share(compared, "same", 1.0, "bit-identical"))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("score", type=Path)
    args = parser.parse_args()
    rows = json.loads(args.score.read_text(encoding="utf-8"))
    results = check(rows)
    for ok, line in results:
        print("ok  " if ok else "FAIL", line)
    return 0 if all(ok for ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
