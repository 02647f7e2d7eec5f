"""The explorer with Colab's versions: ipywidgets 7.7.1 and an older anywidget."""

from __future__ import annotations

import json

import pytest
from kernel_session import Kernel
from test_colab_pins import kernel, python  # noqa: F401  (fixtures)

pytestmark = pytest.mark.colab

CELL = """\
%%gradcheck --quiet
import torch
torch.manual_seed(0)
layer, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], 0.1)
loss = head(layer(torch.randn(8, 4)).detach()).square().mean()
loss.backward()
optimizer.step()
"""


def test_the_explorer_is_the_picture_and_a_widget_view(kernel: Kernel) -> None:  # noqa: F811
    ran = kernel.run("%load_ext gradnb\nimport gradnb")
    kernel.run(CELL)
    ran = kernel.run("gradnb.last_report().explore()")
    assert ran.status == "ok" and not ran.stderr
    still, widget = ran.reports
    assert sorted(still) == ["text/html", "text/plain"] and "lost here" in still["text/html"]
    view = widget["application/vnd.jupyter.widget-view+json"]
    assert view["version_major"] == 2 and view["model_id"]
    assert set(widget) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


def test_its_state_is_what_the_front_end_needs(kernel: Kernel) -> None:  # noqa: F811
    kernel.run("%load_ext gradnb\nimport gradnb")
    kernel.run(CELL)
    kernel.run("import json, ipywidgets; widget = gradnb.last_report().explore().widget(); state = widget.get_state()")
    told = kernel.run("print(json.dumps([ipywidgets.__version__, state['_model_module'], sorted(state), len(state['data']['steps'])]))")
    version, module, names, steps = json.loads(told.stdout)
    assert (version, module, steps) == ("7.7.1", "anywidget", 1)
    assert {"_esm", "_css", "data", "twin"} <= set(names)
