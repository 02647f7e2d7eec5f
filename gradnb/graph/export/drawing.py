"""A ``graphviz.Digraph`` that says in one sentence what to install where the ``dot`` program is missing."""

from __future__ import annotations

import textwrap
from typing import Any

import graphviz

from ...errors import UsageError

INSTALL = (
    "Graphviz's dot program, which draws it, is not installed: apt-get install graphviz (Linux, Colab), brew install graphviz (macOS), "
    "winget install graphviz (Windows) or conda install graphviz. Without it, .source is the DOT text and .save('graph.gv') writes it"
)


class Drawing(graphviz.Digraph):
    """Shows itself in a notebook; ``render(outfile="graph.pdf")`` writes PDF, PNG or SVG, by the file's ending.

    Both need the ``dot`` program: without it ``render`` and ``pipe`` raise a UsageError that names what to install.
    """

    def render(self, *args: Any, **kwargs: Any) -> str:
        return _drawn(super().render, *args, **kwargs)

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        return _drawn(super().pipe, *args, **kwargs)

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return dict(super()._repr_mimebundle_(*args, **kwargs))
        except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, UsageError) as error:
            said = (
                str(error)
                if isinstance(error, UsageError)
                else INSTALL
                if isinstance(error, graphviz.ExecutableNotFound)
                else _failed(error)
            )
            return {"text/plain": f"{said}."}


def _drawn(draw: Any, *args: Any, **kwargs: Any) -> Any:
    refused = ""
    try:
        return draw(*args, **kwargs)
    except graphviz.ExecutableNotFound:
        refused = INSTALL
    except graphviz.CalledProcessError as error:
        refused = _failed(error)
    except OSError as error:
        refused = f"{error.filename or 'the file'} was not written: {error.strerror or error}"
    except ValueError as error:  # a format that dot does not know, or none
        refused = f"{' '.join(str(error).split())[:120]}: render(outfile='graph.pdf') writes a PDF, PNG or SVG, by the file's ending"
    raise UsageError(refused)


def _failed(error: Any) -> str:
    told = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr or "")
    return f"Graphviz's dot program failed (exit status {error.returncode}): {' '.join(told.split())[:300] or 'it said nothing'}"


def text(words: str) -> str:
    """A label that is drawn as it is written: no backslash escape and no HTML in it is read."""
    return graphviz.nohtml(graphviz.escape(words))


def multiline(lines: list[str]) -> str:
    return graphviz.nohtml("\\n".join(graphviz.escape(line) for line in lines if line))


def paragraph(lines: list[str], width: int = 110) -> str:
    """Wrapped and flush left."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, width)]
    return graphviz.nohtml("".join(graphviz.escape(part) + "\\l" for part in wrapped))
