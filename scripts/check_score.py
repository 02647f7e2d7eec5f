"""check_score.py SCORE.json [--same SAME.json]: exits 1 when the tool is worse on the case collection than we promise.

SCORE.json is what score.py writes with --fast; SAME.json is a run without it, which also compares each cell bit for
bit with a bare run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

NUMERIC = {"zero-gradient", "vanishing", "exploding", "nan"}
SOLVED, FOUND, QUIET = 0.80, 0.90, 0.95

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


def check(rows: list[Row], same: list[Row] | None = None) -> list[tuple[bool, str]]:
    """Each promise as (kept, line)."""
    graph = [row for row in rows if row["family"] == "graph" and row["cause"] not in NUMERIC]
    healthy = [row for row in rows if row["family"] == "healthy"]
    repaired = [row for row in rows if row["family"] != "healthy" and row["quiet"] is not None]
    results = [
        share(graph, "solved", SOLVED, "graph: solved"),
        share(graph, "found", FOUND, "graph: found"),
        none_of(healthy, "alarm", "healthy: alarms"),
        share(repaired, "quiet", QUIET, "repaired: quiet"),
        none_of(rows, "crash", "all: crashes"),
    ]
    if same is not None:
        results.append(share([row for row in same if row["same"] is not None], "same", 1.0, "bit-identical"))
        results.append(none_of(same, "crash", "bit-identical run: crashes"))
    return results


def beside(rows: list[Row]) -> list[str]:
    """What is scored too but promised later: the numeric causes and the other families."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["family"] != "healthy":
            numeric = row["cause"] in NUMERIC or row["family"] == "numeric"
            if numeric or row["family"] != "graph":
                groups.setdefault("numeric" if numeric else row["family"], []).append(row)
    return [
        f"{name}: solved {sum(row['solved'] for row in group)}/{len(group)}, found {sum(row['found'] for row in group)}/{len(group)}"
        for name, group in sorted(groups.items())
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("score", type=Path)
    parser.add_argument("--same", type=Path)
    args = parser.parse_args()
    rows = json.loads(args.score.read_text(encoding="utf-8"))
    same = json.loads(args.same.read_text(encoding="utf-8")) if args.same else None
    results = check(rows, same)
    for ok, line in results:
        print("ok  " if ok else "FAIL", line)
    for line in beside(rows):
        print("    ", line, "(not counted)")
    return 0 if all(ok for ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
