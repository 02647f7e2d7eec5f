"""One self-contained page: the report where there is one, and the explorer. It needs no kernel, no server and no network."""

from __future__ import annotations

import json
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from ...report.blocks import inline
from ...report.style import PAGE
from . import assets
from .payload import payload

if TYPE_CHECKING:
    from ...report.report import Report
    from ..picture import Picture


def page(picture: Picture, report: Report | None = None) -> str:
    """The page's text. Without script the static picture stands in the explorer's place."""
    told = _report(report) if report is not None else ""
    title = picture.verdict or "autograd graph"
    head = "" if told else f"<h1>{inline(title)}</h1>"
    title = title.replace("`", "")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>gradnb: {escape(title)}</title><style>{PAGE}{assets.style()}</style></head>\n"
        f'<body class="gx-page"><main>{told}{head}\n<div id="gradnb"><noscript>{picture.svg()}</noscript></div></main>\n'
        f'<script type="application/json" id="gradnb-data">{_json(payload(picture))}</script>\n'
        f"<script>({assets.script()})().page();</script></body></html>\n"
    )


def of_report(report: Report) -> str:
    """The page of a report: with the explorer where there is a graph to draw. A fault of the picture never loses the report."""
    from ...report import html, words

    if report.recording is None or not report.show_graph:
        return html.page(report)
    try:
        return page(report.graph, report)
    except Exception as error:
        told = words.clean(f"{type(error).__name__}: {error}", 200)
        return html.page(replace(report, recording=None, notes=[*report.notes, f"the graph could not be drawn ({told})"]))


def _report(report: Report) -> str:
    """The report as in a notebook, without its static graph: the explorer stands below."""
    from ...report.html import render

    return render(replace(report, recording=None))


def _json(data: dict[str, Any]) -> str:
    """No "<" is left in it: neither a closing script tag nor a comment can end it early."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode("utf-8", "replace").decode("utf-8")
