"""How every benchmark ends: what is over its limit, the figures as JSON on the last line, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def end(figures: Mapping[str, Any], over: Sequence[str], check: bool) -> int:
    """1 where ``check`` was asked for and something is over its limit."""
    if over:
        print("over the limit: " + "; ".join(over))
    print(json.dumps(figures))
    return 1 if check and over else 0
