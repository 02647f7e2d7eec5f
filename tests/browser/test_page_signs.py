"""Signs that the explorer shares with the static picture: dotted without gradients, how parameters do; and its first view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradnb

pytestmark = [pytest.mark.browser]


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(nn.Linear(8, 8) for _ in range(14)))
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    critic, policy = Critic(), nn.Linear(8, 8)
    optimizer = torch.optim.SGD([*critic.parameters(), *policy.parameters()], lr=0.1)
    with gradnb.check() as report:
        with torch.no_grad():
            value = critic(torch.randn(4, 8))
        loss = (policy(torch.randn(4, 8)) - value).pow(2).mean()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("page") / "graph.html"
    report.graph.to_html(str(path))
    return path


def test_what_ran_without_gradients_is_dotted_whatever_kind_of_box_it_is(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    page.wait_for_selector(".gx-chosen")
    assert page.locator(".gx-box[aria-expanded] > rect[stroke-dasharray='0.1 4.5']").count() == 1
    assert "gradients were switched off" in page.locator(".gx-legend").inner_text()


def test_code_in_the_verdict_is_set_as_code(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    page.wait_for_selector(".gx-chosen")
    assert "`" not in page.locator("h1").inner_text() + page.title()


def test_a_picture_taller_than_its_frame_fills_it_at_first(page: Any, file: Path) -> None:
    page.set_viewport_size({"width": 1200, "height": 640})
    page.goto(file.as_uri())
    page.wait_for_selector(".gx-chosen")
    frame, drawn = (
        page.locator(selector).evaluate("e => { const r = e.getBoundingClientRect(); return [r.top, r.bottom]; }")
        for selector in (".gx-stage", ".gx-layer")
    )
    if drawn[1] - drawn[0] > frame[1] - frame[0]:
        assert drawn[0] <= frame[0] + 40 and drawn[1] >= frame[1] - 40
    else:
        assert frame[0] <= drawn[0] and drawn[1] <= frame[1]
