"""Strokes that every drawing of the package shares: text, the svg element around it, the twin that stands alone."""

from __future__ import annotations

from base64 import b64encode
from html import escape

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#999999"
WIDTH = 760
_ANCHOR = {"": "", "mid": ' text-anchor="middle"', "end": ' text-anchor="end"'}


def svg(height: float, label: str, parts: list[str], width: float = WIDTH, shown: float | None = None) -> str:
    """The picture in the colour of the text around it; ``shown`` is its width on the page where that is not ``width``."""
    size = f'width="{width:g}" height="{height:g}"' if shown is None else f'width="{shown:g}" height="{height * shown / width:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size} role="img" '
        f'aria-label="{escape(label)}" fill="currentColor" font-family="system-ui,sans-serif">' + "\n".join(parts) + "</svg>"
    )


def text(
    x: float,
    y: float,
    content: str,
    size: float,
    anchor: str = "",
    mono: bool = False,
    bold: bool = False,
    opacity: str = "",
    colour: str = "",
) -> str:
    extra = ' font-family="monospace"' if mono else ""
    extra += _ANCHOR[anchor]
    extra += ' font-weight="700"' if bold else ""
    extra += f' opacity="{opacity}"' if opacity else ""
    extra += f' fill="{colour}"' if colour else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{extra}>{escape(content)}</text>'


def alone(picture: str) -> str:
    """The same picture with colours of its own on a light plate: it reads on any background."""
    if not picture:
        return ""
    cut = picture.index(">") + 1
    plate = '<rect width="100%" height="100%" rx="6" fill="#fff"/>'
    return (picture[:cut] + plate + picture[cut:]).replace("currentColor", "#1f2328")


def standalone(picture: str) -> str:
    """``alone`` as a data URI, "" for an empty picture."""
    return "data:image/svg+xml;base64," + b64encode(alone(picture).encode("utf-8")).decode("ascii") if picture else ""
