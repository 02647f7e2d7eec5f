"""Where an autocast region ends: training steps inside of it, and those outside."""

from __future__ import annotations

from textwrap import dedent

import pytest

from tests.flow.program import assert_named, assert_silent

SETUP = """
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
"""


BROKEN = {
    "a constant that float16 cannot hold": (
        "autocast",
        """
        LOWEST = -1e9
        def attend(scores, mask):
            return scores.masked_fill(mask, LOWEST).softmax(dim=1)  # <- here
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.mse_loss(attend(net(x), y < 0).float(), y)
        loss.backward()
        """,
    ),
    "a region as the decorator of a whole epoch": (
        "autocast",
        """
        @torch.autocast("cpu", dtype=torch.bfloat16)
        def epoch():
            for _ in range(3):
                opt.zero_grad()
                F.mse_loss(net(x).float(), y).backward()
                opt.step()  # <- here
        epoch()
        """,
    ),
    "backward inside of the autocast region": (
        "autocast",
        """
        for _ in range(2):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.mse_loss(net(x).float(), y)
                loss.backward()  # <- here
            opt.step()
        """,
    ),
    "the whole iteration inside of the region": (
        "autocast",
        """
        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                opt.zero_grad()
                F.mse_loss(net(x).float(), y).backward()  # <- here
                opt.step()
        """,
    ),
    "an autocast region around the loop": (
        "autocast",
        """
        def epoch():
            for _ in range(3):
                opt.zero_grad()
                F.mse_loss(net(x).float(), y).backward()
                opt.step()  # <- here
        with torch.autocast("cpu", dtype=torch.bfloat16):
            epoch()
        """,
    ),
}

HEALTHY = {
    "a region around a loop that only evaluates": """
        opt.zero_grad(); F.mse_loss(net(x), y).backward(); opt.step()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for _ in range(3):
                print(net(x))
        """,
    "bfloat16 autocast around forward and loss, validation under it too": """
        for _ in range(3):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.mse_loss(net(x).float(), y)
            loss.backward()
            opt.step()
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                print(F.mse_loss(net(x).float(), y))
        """,
    "weights and data in bfloat16 without a scaler": """
        net.to(torch.bfloat16)
        opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for _ in range(3):
            opt.zero_grad()
            F.mse_loss(net(x.bfloat16()).float(), y).backward()
            opt.step()
        """,
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_fault_is_named_at_its_line(name):
    cause, body = BROKEN[name]
    assert_named(cause, SETUP + dedent(body), f"region{list(BROKEN).index(name)}")


@pytest.mark.parametrize("name", HEALTHY)
def test_code_that_is_right_is_left_in_peace(name):
    assert_silent(SETUP + dedent(HEALTHY[name]), f"outside{list(HEALTHY).index(name)}")


def test_a_region_without_a_cache_may_go_around_the_loop():
    _, around = BROKEN["an autocast region around the loop"]
    finding = assert_named(
        "autocast",
        SETUP
        + dedent(around)
        .replace("bfloat16)", "bfloat16, cache_enabled=False)")
        .replace("  # <- here", "")
        .replace(".backward()", ".backward()  # <- here"),
        "uncached",
    )
    assert finding.severity == "warning" and "backward" in finding.title


def test_a_region_for_each_iteration_keeps_no_old_weights():
    """Autocast lets its copies of the weights go where the region ends, so this is a remark on backward and no error."""
    _, inside = BROKEN["the whole iteration inside of the region"]
    _, around = BROKEN["an autocast region around the loop"]
    assert assert_named("autocast", SETUP + dedent(inside), "each").severity == "warning"
    assert assert_named("autocast", SETUP + dedent(around), "around").severity == "error"
