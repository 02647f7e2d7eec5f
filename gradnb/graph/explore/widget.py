"""The explorer in a notebook: the static picture first, then an anywidget that takes its place as long as there is a kernel."""

from __future__ import annotations

import sys
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

from . import assets
from .payload import payload

if TYPE_CHECKING:
    from ..picture import Picture

# A saved notebook keeps both outputs. The picture is hidden while the explorer stands below it; an output below it without
# an explorer is the front end's "model not found", which nobody needs to see.
_TWIN = """
.jp-OutputArea-child:has(.{name}):has(+ .jp-OutputArea-child .gradnb-explorer){{display:none}}
.jp-OutputArea-child:has(.{name}) + .jp-OutputArea-child:not(:has(.gradnb-explorer)),
.output_area:has(.{name}) + .output_area:not(:has(.gradnb-explorer)){{display:none}}
"""

# The widget's module. The picture's own element is hidden here, too, for front ends that have other names for their outputs.
_MODULE = """
const gradnbSource = {script};
const gradnb = gradnbSource();
export default {{
  render({{ model, el }}) {{
    const stills = () => document.querySelectorAll("." + CSS.escape(model.get("twin") || "gradnb-none"));
    const away = gradnb.mount(el, model.get("data"), {{ css: model.get("_css"), source: gradnbSource.toString() }});
    stills().forEach((still) => {{ still.style.display = "none"; }});
    return () => {{ away(); stills().forEach((still) => {{ still.style.display = ""; }}); }};
  }},
}};
"""


def explorer(picture: Picture) -> Explorer:
    """What ``report.explore()`` gives: shows itself in a notebook, see ``Explorer``."""
    return Explorer(picture)


class Explorer:
    """The interactive view of a picture, to be shown by a notebook.

    It publishes two outputs: the static picture, which stands in a saved notebook, and the widget, which needs a kernel.
    Without a working anywidget there is the picture and one line that says why. ``widget()`` gives the widget alone.
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    def widget(self, twin: str = "") -> Any:
        """The anywidget, made anew; ``twin`` is the class of the static picture that it hides. Raises ImportError without anywidget."""
        return _widget_class()(data=payload(self.picture), twin=twin)

    def still(self, twin: str = "") -> dict[str, str]:
        """The first output: the static picture; in an element of the class ``twin`` where a widget is to take its place."""
        html = self.picture._repr_html_()
        if twin:
            html = f'<div class="{twin}"><style>{_TWIN.format(name=twin)}</style>{html}</div>'
        return {"text/plain": repr(self.picture), "text/html": html}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        twin = f"gradnb-twin-{uuid.uuid4().hex[:12]}"
        try:
            widget = self.widget(twin)
        except Exception as error:
            display(self.still(), raw=True)
            sys.stdout.flush()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"gradnb: the explorer needs a working anywidget (pip install anywidget): {reason[:200]}", file=sys.stderr, flush=True)
            return
        display(self.still(twin), raw=True)
        display(widget)

    def __repr__(self) -> str:
        return repr(self.picture)


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    class PictureExplorer(anywidget.AnyWidget):  # type: ignore[misc]
        """``data`` is the payload; it is sent once and never comes back."""

        _esm = _MODULE.format(script=assets.script())
        _css = assets.style()
        data = traitlets.Dict().tag(sync=True)
        twin = traitlets.Unicode().tag(sync=True)

        def _repr_mimebundle_(self, **options: Any) -> Any:
            bundle = super()._repr_mimebundle_(**options)
            data = bundle[0] if isinstance(bundle, tuple) else bundle
            if isinstance(data, dict):
                data["text/plain"] = "The explorer needs a notebook with its kernel; the picture above stands without them."
            return bundle

    return PictureExplorer
