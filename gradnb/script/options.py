"""The command line: gradnb's own options stand before the script, everything behind it is the script's."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from .. import __version__

_USAGE = """python -m gradnb [options] script.py [argument ...]
       python -m gradnb [options] -m package.module [argument ...]"""
_WITH_VALUE = ("--steps", "--model", "--loss", "--json", "--html")
_ABOUT = """\
Run a training script as Python would run it, and say which parameters got no gradient, at which line, why, and what
repairs it. The report goes to stderr: stdout stays the script's own."""
_MORE = """\
exit status:
  0  the script ended well and no finding is an error
  1  a finding is an error (or the script raised)
  2  the command line is wrong; nothing was run
  otherwise the script's own: that of sys.exit(n), or of the signal that ended it

Ctrl-C and SIGTERM end the script after the report of what was seen so far. A script that ends by os._exit(), or is
killed, can show no report: put "with gradnb.check() as report:" around its loop and print(report) there. Processes that
the script starts are not recorded. Under torchrun (torchrun ... -m gradnb train.py) the ranks of a machine give one
report, printed by the first of them, whose exit status says whether a finding is an error. torch is loaded before the
script starts: what it reads from the environment while loading (OMP_NUM_THREADS) has to be set outside the script."""


def parse(argv: list[str]) -> argparse.Namespace:
    """The options. Ends the process with status 2 and one clear line where they cannot be used."""
    parser = _parser()
    own, rest = _split(argv)
    args = parser.parse_args(own)
    args.args = rest
    if args.steps < 1:
        parser.error(f"--steps {args.steps} records nothing: give a whole number of 1 or more")
    for option in ("json", "html"):
        name = getattr(args, option)
        if name is not None:
            setattr(args, option, os.path.abspath(os.path.expanduser(name)))  # the script may change the folder
            problem = _unwritable(getattr(args, option))
            if problem:
                parser.error(f"--{option} {name} cannot be written: {problem}; nothing was run")
    if args.json is not None and args.json == args.html:
        parser.error(f"--json and --html both name {args.json}: give each its own file")
    return args


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Our part, up to the name of the script, and the script's: argparse's own REMAINDER would take a "--" out of it."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        at += 2 if argv[at] in _WITH_VALUE else 1
    return argv[: at + 1], argv[at + 1 :]


def refuse(problem: str) -> NoReturn:
    """End the process as for every command line that cannot be used."""
    _parser().error(problem)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m gradnb",
        usage=_USAGE,
        description=_ABOUT,
        epilog=_MORE,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-m", dest="module", action="store_true", help="run a module by its name, as python -m does")
    parser.add_argument("script", help="the Python file to run, or after -m the name of a module or package")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="record the first N optimizer steps whole (default 5)")
    parser.add_argument("--model", action="append", metavar="NAME", help="look at the module of this name only; may be repeated")
    parser.add_argument("--loss", metavar="NAME", help="the variable that holds the loss, where there are several")
    parser.add_argument("--json", metavar="FILE", help="write the report to FILE as JSON too")
    parser.add_argument("--html", metavar="FILE", help="write the report to FILE as one HTML page too")
    parser.add_argument("--quiet", action="store_true", help="print the report only when something is wrong")
    parser.add_argument("--version", action="version", version=f"gradnb {__version__}")
    return parser


def _unwritable(path: str) -> str:
    """Why nothing can be written there, empty where it can: asked before the script runs for an hour."""
    if path.endswith(".py"):
        return "a Python file would be overwritten, give another name (the options stand before the script)"
    new = not os.path.exists(path)
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        return error.strerror or str(error)
    if new:
        os.unlink(path)
    return ""
