#!/usr/bin/env python3
"""Score ``%%gradcheck --prove`` on a folder of gradient-bug cases.

    python scripts/score_proofs.py [FOLDER] [--only SUBSTRING] [--least 80] [--wrong 8]

Each case about the graph or the wiring runs in a fresh IPython shell under ``%%gradcheck --prove``. Of the solved ones (the first
finding names an accepted cause at an accepted line) at least ``--least`` percent must be proven. Then each claim is made again
for lines that are not at fault, up to ``--wrong`` of them a case, those first where something similar stands: none may be proven.
Exit status 1 where either promise is broken.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CUTS = {"detach", "data", "item", "numpy", "no-grad", "rewrap", "reparameter", "integer-cast", "nondifferentiable", "custom-function"}
CALLS = {
    "detach": "detach",
    "detach_": "detach",
    "item": "item",
    "tolist": "item",
    "float": "item",
    "int": "item",
    "numpy": "numpy",
    "asarray": "numpy",
    "array": "numpy",
    "tensor": "rewrap",
    "as_tensor": "rewrap",
    "from_numpy": "rewrap",
    "FloatTensor": "rewrap",
    "Tensor": "rewrap",
    "Parameter": "reparameter",
    "deepcopy": "reparameter",
    "requires_grad_": "reparameter",
    "argmax": "nondifferentiable",
    "argmin": "nondifferentiable",
    "round": "nondifferentiable",
    "sample": "nondifferentiable",
    "long": "integer-cast",
    "bool": "integer-cast",
    "apply": "custom-function",
}
REGIONS = ("no_grad", "inference_mode", "set_grad_enabled")


def openings(tree: ast.AST, cause: str) -> Iterator[tuple[str, ast.AST]]:
    """The places where a finding of the cause could have been made by mistake, each with the cause that it would have there."""
    for node in ast.walk(tree):
        if cause in CUTS or cause in ("inference-tensor", "inert-term"):
            yield from _cuts(node)
        elif cause == "frozen":
            if isinstance(node, ast.Assign) or isinstance(node, ast.Call) and _name(node) == "requires_grad_":
                yield cause, node
        elif cause in ("unregistered", "not-in-optimizer"):
            if isinstance(node, ast.Assign) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                yield cause, node
        elif cause == "non-leaf":
            if isinstance(node, ast.BinOp) or isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield cause, node
        elif cause == "unused":
            if isinstance(node, ast.Return):
                yield cause, node
        elif isinstance(node, (ast.Call, ast.BinOp)):
            yield cause, node


def _cuts(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Call) and _name(node) in CALLS:
        yield CALLS[_name(node)], node
    elif isinstance(node, ast.Attribute) and node.attr == "data" and isinstance(node.ctx, ast.Load):
        yield "data", node
    elif isinstance(node, ast.Compare):
        yield "nondifferentiable", node
    elif isinstance(node, ast.With):
        yield from (("no-grad", item.context_expr) for item in node.items if _switches(item.context_expr))
    elif isinstance(node, ast.FunctionDef):
        yield from (("no-grad", head) for head in node.decorator_list if _switches(head))
        if node.name == "backward":
            yield "custom-function", node


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _switches(node: ast.AST) -> bool:
    return any(name in ast.unparse(node) for name in REGIONS)


def wrong_claims(claim: Any, text: str, right: set[int], most: int) -> list[Any]:
    """The claim made of other lines of the same cell: those with the same cause first, then the others from top to bottom."""
    seen: dict[tuple[str, int], Any] = {}
    for cause, node in openings(ast.parse(text), claim.cause):
        line = node.lineno  # type: ignore[attr-defined]
        if line in right or line == claim.location.line or line in {place.line for place in claim.same}:
            continue
        end, start, stop = node.end_lineno, node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
        place = dataclasses.replace(claim.location, line=line, end_line=end, column=start, end_column=stop)
        seen.setdefault((cause, line), dataclasses.replace(claim, cause=cause, location=place, same=()))
    return sorted(seen.values(), key=lambda other: (other.cause != claim.cause, other.location.line))[:most]


def run(case: Path, truth: dict, most: int, connection: Any) -> None:
    """In a child: run the case, and send what was claimed, found and proven."""
    out: dict[str, Any] = {}
    try:
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            out = _run(case, truth, most)
    except BaseException:
        out = {"crash": traceback.format_exc()[-600:]}
    connection.send(out)
    connection.close()
    os._exit(0)


def _run(case: Path, truth: dict, most: int) -> dict[str, Any]:
    import torch
    from IPython.core.interactiveshell import InteractiveShell

    import gradnb
    from gradnb.prove.spare import Spare

    torch.manual_seed(0)
    torch.set_num_threads(1)
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext gradnb", store_history=True)
    setup = case / "setup.py"
    if setup.exists():
        shell.run_cell(setup.read_text(), store_history=True)
    body = (case / "cell.py").read_text()
    in_setup = truth.get("file") == "setup.py"
    text = setup.read_text() if in_setup else "\n" + body
    right = {line + (0 if in_setup else 1) for line in truth["lines"]}
    wrong: list[tuple[str, int, str]] = []
    ask = Spare.prove

    def also_wrong_ones(self: Any, claims: list[Any], raised: Any, limit: float, total: float) -> Iterator[tuple[int, Any]]:
        more = wrong_claims(claims[0], text, right, most)
        for number, proof in ask(self, claims + more, raised, limit, total + 300):
            if number < len(claims):
                yield number, proof
            else:
                claim = more[number - len(claims)]
                wrong.append((claim.cause, claim.location.line, proof.text if proof.proven else ""))

    Spare.prove = also_wrong_ones  # type: ignore[method-assign, assignment]
    begun = time.perf_counter()
    shell.run_cell("%%gradcheck --prove\n" + body, store_history=True)
    count = shell.execution_count - 1
    report = json.loads(json.dumps(gradnb.last_report().to_dict()))  # type: ignore[union-attr]
    findings = [f for f in report["findings"] if f["severity"] in ("error", "warning")]
    cell = count - 1 if in_setup else count
    marks = []
    for finding in findings[:3]:
        where = finding["location"] or {}
        proof = finding.get("proof") or {}
        at_fault = where.get("cell") == cell and where.get("line") in right
        named = finding["cause"] in [truth["cause"], *truth.get("accept", [])]
        marks.append((finding["cause"], where.get("line"), at_fault, named, proof.get("proven"), proof.get("text", "")))
    return {"marks": marks, "wrong": wrong, "seconds": time.perf_counter() - begun}


def in_child(case: Path, truth: dict, most: int) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(False)
    child = context.Process(target=run, args=(case, truth, most, there))
    child.start()
    there.close()
    out: dict[str, Any] = {"crash": "no answer in 600 s"}
    if here.poll(600):
        with contextlib.suppress(EOFError):
            out = here.recv()
    child.join(2)
    if child.is_alive():
        child.kill()
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="../shared/cases", help="searched for truth.json (default: ../shared/cases)")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only cases whose path holds SUBSTRING")
    parser.add_argument("--least", type=float, default=80.0, metavar="PERCENT", help="of the solved cases that must be proven (default 80)")
    parser.add_argument("--wrong", type=int, default=8, metavar="N", help="lines not at fault that are tried for each case (default 8)")
    args = parser.parse_args()
    import IPython  # noqa: F401
    import torch  # noqa: F401  # imported before the forks, so that each case starts at once

    import gradnb.prove  # noqa: F401

    folder = Path(args.folder).resolve()
    if not folder.is_dir():
        parser.error(f"{args.folder} is no folder; name one that holds cases with a truth.json each")
    cases = [(path.parent, json.loads(path.read_text())) for path in sorted(folder.rglob("truth.json")) if args.only in str(path)]
    cases = [(case, truth) for case, truth in cases if truth["family"] == "graph"]
    if not cases:
        parser.error(f"no case about the graph or the wiring in {args.folder}")
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4)) as pool:
        results = list(pool.map(lambda item: in_child(*item, args.wrong), cases))
    return report(cases, results, args.least)


def report(cases: list[tuple[Path, dict]], results: list[dict[str, Any]], least: float) -> int:
    """Print the table and the verdict; the exit status."""
    solved = proven = tried = 0
    broken: list[str] = []
    for (case, _), out in zip(cases, results):
        if "crash" in out:
            broken.append(f"{case.name}: {out['crash']}")
            continue
        marks = out["marks"]
        first = marks[0] if marks else ("nothing", None, False, False, None, "")
        good = first[2] and first[3]
        solved += good
        proven += good and first[4] is True
        tried += len(out["wrong"])
        sign = ("proven" if first[4] else "open") if good else "not solved"
        print(f"{case.name:<46} {sign:<10} {first[0]}:{first[1]}  {first[5]}  [{out['seconds']:.0f} s, {len(out['wrong'])} other lines]")
        for cause, line, at_fault, _, said, text in marks:
            if said is True and not at_fault:
                broken.append(f"{case.name}: proven, but not at fault: {cause} at line {line}: {text}")
        broken += [f"{case.name}: proven of a wrong line: {cause} at line {line}: {text}" for cause, line, text in out["wrong"] if text]
    share = 100.0 * proven / solved if solved else 0.0
    print(f"proven {proven} of {solved} solved cases ({share:.0f} %, at least {least:.0f} % promised); {tried} wrong lines tried")
    for line in broken:
        print(f"BROKEN {line}")
    return 1 if broken or share < least or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
