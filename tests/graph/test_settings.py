"""Five ways to lose the gradient in three architectures: the picture marks the right operation, module and line, read as text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from broken_models import WAYS, setting
from in_process import Shell

import gradnb

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["mlp", "resnet", "gpt2"])
def test_the_picture_marks_the_operation_the_module_and_the_line_of_the_cut(shell: Shell, model: str, way: str) -> None:
    place = setting(model, way)
    ran = shell.run(place.cell)
    assert ran.error is None
    report = gradnb.last_report()
    assert report is not None
    picture = ElementTree.fromstring(report.graph.svg())
    lost = [group for group in picture.iter(f"{SVG}g") if any(text.text == "lost here" for text in group.findall(f"{SVG}text"))]
    assert len(lost) == 1
    title = lost[0].findtext(f"{SVG}title") or ""
    assert re.match(rf"{place.operation}( \(x\))?, operation\nlost: line {place.line}: ", title)
    assert re.search(rf"^in {re.escape(place.module)} \(", title, re.M)
    assert any((text.text or "").startswith(f"line {place.line}: ") for text in lost[0].findall(f"{SVG}text"))
    label = picture.get("aria-label") or ""
    assert place.operation in label and f"line {place.line}" in label
    dashed = [group for group in picture.iter(f"{SVG}g") if group.get("stroke-dasharray")]
    assert sum(len(group.findall(f"{SVG}path")) for group in dashed) >= 1
    # the text says the same
    assert re.search(rf"✗ {place.operation} .*lost.*line {place.line}: ", repr(report.graph))
