"""How the site is built: `make docs`. The pages of the causes, rules, magics and walkthroughs are made by `_ext/pages.py`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import pages  # noqa: E402

import gradnb  # noqa: E402

project = "gradnb"
author = "the gradnb authors"
copyright = "the gradnb authors"
version = release = gradnb.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

napoleon_google_docstring = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}  # a field may be told in its class's text
add_module_names = False

smartquotes_action = "D"  # dashes only: a quotation mark in a docstring is often one of Python's

nitpicky = True
# Types of other projects are named, not linked: the build needs no network. Of ours, those that no user meets.
nitpick_ignore_regex = [
    ("py:.*", r"(?!gradnb\b).*"),
    ("py:.*", r"gradnb\.(graph\.model|monitor\.(blocks|panel)|recorder|numeric\.calls)\..*"),
]

html_theme = "furo"
html_title = f"gradnb {release}"
html_theme_options = {"footer_icons": [{"name": "Repository", "url": pages.repository(), "html": "Repository", "class": ""}]}
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
