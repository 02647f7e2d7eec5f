"""Makes the pages that have their source elsewhere: the causes, the monitor's rules, the magics and the walkthroughs.

The text is that of ``gradnb.explain`` and ``gradnb.monitor.rules.explain``, set as Markdown: nothing is said in two places. The groups of
the causes are those of the table in README.md.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gradnb import diagnoses
from gradnb.diagnoses._program import MARK
from gradnb.monitor import rules

ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = {"Wrong": "The broken program", "Right": "The repaired program"}
_CAUSES = (
    "What `%%gradcheck` names. Each page has a program that has the fault, with the line marked, and the repaired one. Both run, and the "
    "tests check them: the first is named at its line, the second is met with silence."
)
_ORDER = ("What happens", "Wrong", "Right", "Why it matters", "Fix", "Try", "References")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: write_all(Path(app.srcdir)))
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _signature(app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, result: str | None) -> Any:
    """No user calls the constructors of what gradnb hands out: dataclasses, and those that a function makes."""
    made = dataclasses.is_dataclass(thing) or name.rpartition(".")[2] in ("Monitor", "Check", "View", "Listing", "Explorer", "Remote")
    return ("", None) if what == "class" and made and not name.endswith(".Sign") else (signature, result)


def write_all(folder: Path) -> None:
    """Write the pages below a folder; one that is as it should be is left alone, so that Sphinx does not read it again."""
    wanted = dict(pages())
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for stale in [one for made in ("causes", "rules") for one in (folder / made).glob("*.md") if f"{made}/{one.name}" not in wanted]:
        stale.unlink()


def _more(rule: str) -> str:
    """Where a rule's text is read without this page; where a cause has the same name, the magic tells the cause."""
    magic = "" if rule in diagnoses.slugs() else f"In a notebook: `%gradexplain {rule}`. "
    return f'{magic}In Python: `gradnb.monitor.rules.explain("{rule}")`.'


def pages() -> Iterator[tuple[str, str]]:
    """(path below docs/, text) of every page that is made."""
    yield "causes/index.md", causes_index((ROOT / "README.md").read_text(encoding="utf-8"))
    for slug in diagnoses.slugs():
        more = f'In a notebook: `%gradexplain {slug}`. In Python: `gradnb.explain("{slug}")`.'
        yield f"causes/{slug}.md", page(diagnoses.explain(slug), more)
    yield "rules/index.md", rules_index()
    for slug in rules.slugs():
        yield f"rules/{slug}.md", page(rules.explain(slug), _more(slug))
    yield "api/magics.md", magics()
    yield "walkthroughs.md", walkthroughs()


def page(text: str, more: str) -> str:
    """An explanation as a page: its headings, its programs with the line at fault, its numbers as a table."""
    head, title, body = text.split("\n\n", 2)
    slug = head.splitlines()[0]
    parts, numbers = _parts(body.splitlines())
    lines = [f"# {slug}", "", prose(title), ""]
    lines += [*(f"- **{name}**: {prose(value)}" for name, value in numbers), ""]
    for heading in [*(name for name in _ORDER if name in parts), *(name for name in parts if name not in _ORDER)]:
        write = _program if heading in _PROGRAMS else _references if heading == "References" else _text
        lines += [f"## {_PROGRAMS.get(heading, heading)}", "", *write(parts[heading]), ""]
    return "\n".join([*lines, "---", "", more, ""])


def _parts(lines: list[str]) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """What stands indented below each heading; and the lines "Name   value" at the end."""
    parts: dict[str, list[str]] = {}
    numbers: list[tuple[str, str]] = []
    for line in lines:
        if found := re.fullmatch(r"([A-Z]\w+) {2,}(.+)", line):
            numbers.append((found[1], found[2]))
        elif line and not line.startswith(" "):
            heading = line
            parts[heading] = []
        elif parts:
            parts[heading].append(line[4:])
    return {name: "\n".join(body).strip("\n").splitlines() for name, body in parts.items()}, numbers


def _program(lines: list[str]) -> list[str]:
    marked = ",".join(str(number) for number, line in enumerate(lines, 1) if MARK in line)
    return ["```{code-block} python", *([f":emphasize-lines: {marked}"] if marked else []), "", *lines, "```"]


def _text(lines: list[str]) -> list[str]:
    return [prose(line) for line in lines]


def _references(lines: list[str]) -> list[str]:
    return [("- " if line.startswith("http") else "") + prose(line) for line in lines]


def prose(text: str) -> str:
    """Plain text with `code` and addresses in it, as Markdown: what Markdown would read as markup is escaped."""
    pieces = re.split(r"(`[^`]*`|https?://[^\s)\],]*[^\s)\],.])", text)
    return "".join(f"<{p}>" if p.startswith("http") else p if p.startswith("`") else re.sub(r"([*_<>\[\]|\\])", r"\\\1", p) for p in pieces)


def causes_index(readme: str) -> str:
    """The README's table, with each cause a link to its page."""
    rows = re.search(r"^\| cause \|.*?\n\|[-| ]+\|\n((?:\|.*\|\n)+)", readme, re.M)
    assert rows, "README.md has no table that begins with | cause |"
    lines = ["# Causes", "", _CAUSES, ""]
    for row in rows[1].splitlines():
        if group := re.fullmatch(r"\| \*(.+?)\* \| *\|", row):
            lines += ["", f"## {group[1][:1].upper()}{group[1][1:]}", "", "| cause | what happened |", "|---|---|"]
            continue
        cause, _, rest = row.removeprefix("|").partition("|")
        linked = re.sub(r"`([a-z0-9-]+)`", r"[`\1`](\1.md)", cause)
        lines += [f"|{linked}|{rest}"]
    return "\n".join([*lines, "", *_toctree(diagnoses.slugs())])


def rules_index() -> str:
    rows = [f"| [`{slug}`]({slug}.md) | {prose(rules.summary(slug))} |" for slug in rules.slugs()]
    intro = "What `gradnb.watch` raises a flag for, while a training goes on. Each page gives the threshold and where it comes from."
    return "\n".join(
        ["# Rules of the monitor", "", intro, "", "| rule | what is wrong |", "|---|---|", *rows, "", *_toctree(rules.slugs())]
    )


def _toctree(names: list[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", ":titlesonly:", "", *names, "```", ""]


def magics() -> str:
    """The magics with their options, from the code that reads them."""
    from gradnb.notebook.gradckpt import CheckpointMagics
    from gradnb.notebook.gradwatch import WatchMagics
    from gradnb.notebook.magics import GradnbMagics

    lines = ["# Magics", "", "After `%load_ext gradnb`. In a notebook `%gradgraph?` shows the same.", ""]
    for owner in (GradnbMagics, WatchMagics, CheckpointMagics):
        for kind, table in owner.magics.items():
            for name in sorted(table):
                lines += _magic("%%" * (kind == "cell") or "%", name, getattr(owner, name))
    return "\n".join(lines)


def _magic(sign: str, name: str, method: Callable[..., Any]) -> Iterator[str]:
    text = re.sub(r"\A::\n\n(  .*\n)+", "", inspect.cleandoc(method.__doc__ or ""))
    text = re.sub(r"(positional arguments|options|optional arguments):\n(.*\n?)*", "", text)
    before, _, after = text.partition("Examples\n--------\n::\n")
    example = re.match(r"(?:\n| .*\n?)*", after)
    yield from (f"## `{sign}{name}`", "", before.strip().replace("``", "`"), "")
    actions = [one for one in getattr(getattr(method, "parser", None), "_actions", []) if one.dest != "help"]
    if actions:
        yield from ("| option | |", "|---|---|")
    for one in actions:
        value = "" if one.nargs == 0 else " " + str(one.metavar or ",".join(map(str, one.choices or [])) or one.dest)
        shown = f"{one.option_strings[0]}{value}" if one.option_strings else value.strip()
        yield f"| `{shown}` | {prose(one.help)} |"
    yield ""
    if example and example[0].strip():
        yield from (
            "```text",
            inspect.cleandoc("\n" + example[0]).strip("\n"),
            "```",
            "",
            after[example.end() :].strip().replace("``", "`"),
            "",
        )


def repository() -> str:
    """Its address, from the one place that tells it."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    return found


def walkthroughs() -> str:
    """One line for each notebook: its title and its first paragraph."""
    colab = repository().replace("https://github.com/", "https://colab.research.google.com/github/") + "/blob/main/notebooks/"
    lines = [
        "# Walkthroughs",
        "",
        "Notebooks with their outputs, to read and to run; each has a broken training, its diagnosis and its repair.",
        "",
    ]
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        title = re.search(r"^# (.+)$", text, re.M)
        assert title, f"{path.name} has no heading"
        first = next((p for p in text[title.end() :].split("\n\n") if re.match(r"\s*[A-Z*`]", p) and "](http" not in p), "")
        lines += [
            f"## {title[1]}",
            "",
            " ".join(first.split()),
            "",
            f"[{path.name}](../notebooks/{path.name}), or [in Colab]({colab}{path.name})",
            "",
        ]
    return "\n".join(lines)
