"""Which characters of the user's line are marked."""

from __future__ import annotations

import ast

import pytest

from gradnb.recorder.recording import Location
from gradnb.report import source
from gradnb.report.report import Report


def marked(code: str, part: str, line: int = 1) -> tuple[str, str]:
    """The marked part of the frame's line and the text above its carets."""
    node = next(n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.expr) and ast.get_source_segment(code, n) == part)
    raw = code.splitlines()[line - 1]
    place = Location(1, None, line, "f", raw.strip(), node.end_lineno, node.col_offset, node.end_col_offset, "cell")
    found = next(each for each in source.frame(Report(sources={"cell": code}), place) if each.marked)
    return found.text[found.start : found.end], found.underline()


@pytest.mark.parametrize(
    "code",
    [
        "y = h.detach() + 1",
        "größe = 'äöü€' ; y = f(größe, h.detach())",
        "損失 = 合計(h.detach())",
        "if True:\n\ty = h.detach()",
        "if True:\n\tß = '\\t'; y = h.detach() ; z = 1",
    ],
)
def test_the_marked_columns_are_those_python_means(code: str) -> None:
    line = 2 if "\n" in code else 1
    assert marked(code, "h.detach()", line)[0] == "h.detach()"


def test_carets_stand_below_their_characters_behind_wide_ones() -> None:
    text, carets = marked("損失 = 合計(h.detach())", "h.detach()")
    assert carets == " " * 12 + "^" * len(text)


def test_an_expression_over_several_lines_is_marked_to_the_end_of_its_first() -> None:
    assert marked("y = f(\n    h,\n)", "f(\n    h,\n)")[0] == "f("


def test_without_columns_the_whole_line_is_marked_without_its_indent() -> None:
    place = Location(1, None, 2, "f", "y = h", filename="cell")
    found = next(each for each in source.frame(Report(sources={"cell": "if x:\n    y = h\n"}), place) if each.marked)
    assert found.text[found.start : found.end] == "y = h"


def test_a_very_long_line_is_shown_around_its_marked_part() -> None:
    code = "y = [" + "1, " * 300 + "h.detach(), " + "2, " * 300 + "]"
    text, carets = marked(code, "h.detach()")
    assert text == "h.detach()" and len(carets) <= source.WIDEST
