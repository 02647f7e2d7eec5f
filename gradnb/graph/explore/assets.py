"""The explorer's own files (``static/``) as one script and one style sheet: no build step, nothing loaded from anywhere."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

# Each after what it imports.
MODULES = ("model", "dom", "colour", "layout", "draw", "view", "panel", "hint", "keyboard", "toolbar", "save", "explorer")


def _read(name: str) -> str:
    return files("gradnb.graph.explore").joinpath("static", name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """A JavaScript function without arguments that gives ``{mount, page}``.

    It is one function, so that the explorer can take its own source along when it saves a page. Inside, each file has a scope of
    its own, and its imports become constants.
    """
    parts = [_scope(name) for name in MODULES]
    return 'function gradnbExplorer() {\n"use strict";\n' + "\n".join(parts) + "\nreturn explorer_js;\n}"


def _scope(name: str) -> str:
    text = re.sub(r'^import (\{.*\}) from "\./(\w+)\.js";$', r"const \1 = \2_js;", _read(f"{name}.js"), flags=re.MULTILINE)
    exported = re.findall(r"^export (?:async )?(?:function|const) (\w+)", text, flags=re.MULTILINE)
    text = re.sub(r"^export ", "", text, flags=re.MULTILINE).strip()
    return f"const {name}_js = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"


@cache
def style() -> str:
    return _read("explorer.css")
