"""One frame of the monitor for a notebook: html with the picture, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape

from ..report import blocks, words
from ..report.pen import WIDTH, standalone
from ..report.style import CSS
from . import columns, text
from .drawing import SIGNS, picture
from .flags import SEVERITIES, Flag
from .history import History

MOST_FLAGS = 8
_OWN_CSS = """
.gradnb.gradnb .gradnb-flag{margin:.3em 0;padding:.1em 0 .1em .7em;border-left:4px solid var(--gn-bad)}
.gradnb.gradnb .gradnb-flag.gradnb-warning{border-left-color:var(--gn-warn)}
.gradnb.gradnb .gradnb-flag.gradnb-info{border-left-color:var(--gn-good)}
.gradnb.gradnb .gradnb-ended{opacity:.65}
""".strip()


def bundle(history: History, flags: Sequence[Flag], state: str = "", live: bool = False) -> dict[str, str]:
    """text/plain and text/html. ``state`` says how it ended, as in "interrupted"; a live frame leaves out what needs time to read: each
    flag's reason and advice, and the numbers under a pointer."""
    shown, look = ordered(flags), columns.look(history)
    head = text.verdict(history, flags, state), text.newest(history)
    return {"text/plain": text.whole(history, shown, look, head), "text/html": html(history, shown, look, head, live)}


def ordered(flags: Sequence[Flag]) -> list[Flag]:
    """Those that go on first, the worst before the others, and the oldest of equals first; then the newest ended one of each kind."""
    active = sorted((flag for flag in flags if flag.active), key=_rank)
    ended = {(flag.rule, flag.key): flag for flag in flags if not flag.active}
    for flag in active:
        ended.pop((flag.rule, flag.key), None)
    return active + sorted(ended.values(), key=_rank)


def _rank(flag: Flag) -> int:
    return SEVERITIES.index(flag.severity) if flag.severity in SEVERITIES else 1


def html(history: History, flags: Sequence[Flag], look: columns.Look | None, head: tuple[str, str], live: bool = False) -> str:
    """One ``<div>``; the flags come in their order."""
    active = [flag.severity for flag in flags if flag.active]
    kind = "error" if "error" in active else "warning" if "warning" in active else "ok"
    parts = [f'<div class="gradnb gradnb-monitor">\n<style>{CSS}\n{_OWN_CSS}</style>', blocks.verdict(kind, head[0])]
    parts.append(f"<p>{escape(head[1])}</p>")
    if look is not None:
        drawn, plain = picture(history, flags, look, live)
        # The image is for a front end that strips style and SVG; our style hides it everywhere else. A live frame has not long to live.
        still = "" if live else f'<img class="gradnb-still" alt="{escape(head[0])}" width="{WIDTH}" src="{standalone(plain)}">'
        parts.append(f'<figure><div class="gradnb-picture" hidden="hidden">{drawn}</div>{still}</figure>')
    parts += [_flag(number, flag, not live) for number, flag in enumerate(flags[:MOST_FLAGS], 1)]
    if len(flags) > MOST_FLAGS:
        parts.append(f"<p>+ {words.count(len(flags) - MOST_FLAGS, 'flag')}, see <code>monitor.flags</code></p>")
    parts += [f"<p>Note: {_inline(note)}</p>" for note in text.notes(history)]
    return "\n".join(parts) + "\n</div>"


def _flag(number: int, flag: Flag, advice: bool) -> str:
    kind = flag.severity if flag.severity in SIGNS else "warning"
    since = f"since step {flag.first:,}" if flag.active else f"from step {flag.first:,}, ended by step {flag.cleared or flag.last:,}"
    told = (("Why", flag.reason), ("Try", flag.advice)) if advice and flag.active else ()
    more = "".join(f"<br><strong>{head}:</strong> {_inline(body)}" for head, body in told if body)
    ended = "" if flag.active else " gradnb-ended"
    return (
        f'<p class="gradnb-flag gradnb-{kind}{ended}"><span class="gradnb-badge">'
        f"{SIGNS[kind]} {number} {_inline(flag.severity)}: {_inline(flag.rule)}</span> "
        f"<strong>{since}:</strong> {_inline(flag.text)}{more}</p>"
    )


@lru_cache(maxsize=512)
def _inline(said: str) -> str:
    return blocks.inline(said, 600)
