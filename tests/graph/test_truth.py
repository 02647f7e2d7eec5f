"""The picture against autograd itself: what flows, what does not, how large it is, and that nothing is missing without a word."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from engine import Engine
from truth import ARRIVED, differences

import gradnb
from gradnb import diagnoses
from gradnb.diagnoses._program import program
from gradnb.errors import UsageError
from gradnb.graph.model import Graph
from gradnb.report.report import Report

PROGRAMS = {file.stem: file for file in sorted((Path(__file__).parent / "programs").glob("*.py"))}
# Part of their history is made where the recorder does not look: a note has to say so.
UNSEEN = ["in_threads", "loss_on_grad", "scripted_function", "torch_func", "traced_model"]
BROKEN = ["custom_function_drops", "parameter_containers", "retain_twice"]
MANUAL = ["bad_reparameter"]  # its parameter is made anew in each step, and drawn as the call that makes it


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(source: str, file: str) -> tuple[Report, dict[str, Any], Engine]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings(), torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with Engine() as engine, contextlib.suppress(AssertionError, RuntimeError, ValueError, TypeError):
            with gradnb.check(namespace=namespace) as report:
                exec(compile(source, file, "exec"), namespace)
    return report, namespace, engine


def of_file(name: str) -> tuple[Report, dict[str, Any], Engine]:
    return run(PROGRAMS[name].read_text(), str(PROGRAMS[name]))


def of_diagnosis(slug: str, which: str, folder: Path) -> tuple[Report, dict[str, Any], Engine]:
    source, _ = program(importlib.import_module(f"gradnb.diagnoses.{slug.replace('-', '_')}"), which)
    file = folder / f"{which}_{slug}.py"
    file.write_text(source)
    return run(source, str(file))


def alarms(graph: Graph) -> list[str]:
    """Everything that is drawn in vermillion."""
    nodes = [f"{n.name or n.label} is {n.state}" for n in graph.nodes if n.state in ("lost", "starved") or n.mark is not None]
    return nodes + [f"an edge into {graph.nodes[e.target].label} is {e.kind}" for e in graph.edges if e.kind in ("lost", "starved")]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in UNSEEN])
def test_what_flows_in_the_picture_is_what_autograd_did(name: str) -> None:
    report, namespace, engine = of_file(name)
    counted: Counter[str] = Counter()
    assert differences(report, namespace, engine, counted) == []
    assert counted["recorded operations counted"] or name == "loss_is_a_leaf"
    if name not in BROKEN:
        assert [f.title for f in report.findings if f.severity in ("error", "warning")] == []
        assert [line for graph in report.graph.graphs for line in alarms(graph)] == []


@pytest.mark.parametrize("which", ["good", "bad"])
@pytest.mark.parametrize("slug", diagnoses.slugs())
def test_it_is_so_in_the_examples_of_each_cause(slug: str, which: str, tmp_path: Path) -> None:
    report, namespace, engine = of_diagnosis(slug, which, tmp_path)
    found = differences(report, namespace, engine, Counter())
    assert [line for line in found if f"{which}_{slug}" not in MANUAL or "not drawn" not in line] == []
    if which == "good":
        assert [line for graph in report.graph.graphs for line in alarms(graph)] == []


@pytest.mark.parametrize("name", UNSEEN)
def test_a_history_that_was_not_recorded_is_told_and_its_parameters_have_their_gradient(name: str) -> None:
    report, namespace, _ = of_file(name)
    for graph in report.graph.graphs:
        assert any("history that was not recorded" in note for note in graph.notes), graph.notes
        parameters = [node for node in graph.nodes if node.kind == "parameter" and "weight" in node.name]
        assert parameters and all(node.state in ARRIVED and node.norm for node in parameters)
        assert alarms(graph) == []


@pytest.mark.parametrize("slug", ["inplace-modified", "not-scalar", "second-backward", "unused-in-grad"])
def test_after_a_backward_that_raised_only_a_parameter_with_a_gradient_has_one_in_the_picture(slug: str, tmp_path: Path) -> None:
    report, namespace, _ = of_diagnosis(slug, "bad", tmp_path)
    graph = report.graph.graphs[-1]
    assert "the backward pass raised: blue shows the ways that its gradient would have taken" in graph.notes
    modules = [value for value in namespace.values() if isinstance(value, torch.nn.Module)]
    fed = {name for module in modules for name, p in module.named_parameters() if p.grad is not None}
    fed |= {f"{variable}.{name}" for variable, m in namespace.items() if isinstance(m, torch.nn.Module) for name in fed}
    assert {node.name for node in graph.nodes if node.kind == "parameter" and node.state in ARRIVED} <= fed


def test_the_gradient_is_followed_behind_code_that_was_not_recorded() -> None:
    report, _, _ = of_file("scripted_function")
    for graph in report.graph.graphs:
        assert [node.state for node in graph.nodes if node.label in ("linear", "tanh")] == ["flows"] * 3


def test_a_function_that_drops_a_gradient_is_marked_and_what_stands_behind_it_starves() -> None:
    report, _, _ = of_file("custom_function_drops")
    for graph in report.graph.graphs:
        (marked,) = [n for n, node in enumerate(graph.nodes) if node.mark is not None]
        assert graph.nodes[marked].label == "Gate" and graph.nodes[marked].mark.cause == "custom-function"  # type: ignore[union-attr]
        kinds = {graph.nodes[e.source].label: (e.kind, e.cut) for e in graph.edges if e.target == marked}
        assert kinds == {"relu": ("lost", True), "k": ("flows", False)}
        assert {n.state for n in graph.nodes if n.name.startswith("a.")} == {"starved"}


def test_the_network_that_ran_before_the_other_one_stepped_is_in_the_picture_of_its_own_step() -> None:
    report, _, _ = of_file("gan_in_turns")
    graph = next(g for g in report.graph.graphs if g.title == "step 1 of og")
    assert {n.name for n in graph.nodes if n.name.startswith("G.")} == {"G.0.weight", "G.0.bias", "G.2.weight", "G.2.bias"}
    assert "3 operations drawn here ran before the optimizer step in front of this one: the gradient goes back there" in graph.notes


def test_a_gradient_that_was_cleared_before_the_step_is_known_by_the_way_it_came(tmp_path: Path) -> None:
    report, _, engine = of_diagnosis("zero-grad-misplaced", "bad", tmp_path)
    parameters = [node for node in report.graph.graphs[0].nodes if node.kind == "parameter"]
    assert parameters and {node.state for node in parameters} == {"flows"}
    told = sorted(node.norm or 0.0 for node in parameters)
    assert told == pytest.approx(sorted(norm or 0.0 for norm in engine.passes[0].grads.values()), rel=1e-3)


def test_norms_that_are_sums_or_were_changed_are_told_as_such() -> None:
    accumulated, _, _ = of_file("accumulation")
    assert any(note.endswith("found it: summed over 3 backward passes") for note in accumulated.graph.graph.notes)
    scaled, _, _ = of_file("grad_scaler")
    assert any(note.endswith("found it: after unscaling, after clipping") for note in scaled.graph.graph.notes)


@pytest.mark.parametrize("name", ["gan_in_turns", "view_written", "traced_model", "loss_is_a_leaf", "meta_device", "custom_several"])
def test_every_form_of_the_graph_is_sound_and_making_them_changes_nothing(name: str) -> None:
    report, namespace, _ = of_file(name)
    held = [p for m in namespace.values() if isinstance(m, torch.nn.Module) for p in m.parameters() if not p.is_meta]
    before = [(p.detach().clone(), p.grad, p._version) for p in held]
    random = torch.random.get_rng_state()
    for step in range(1, len(report.graph.graphs) + 1):
        picture = report.graph.fold(step=step)
        source = picture.to_dot().source
        if shutil.which("dot"):
            drawn = subprocess.run(["dot", "-Tsvg"], input=source.encode(), capture_output=True, check=True)
            assert drawn.stdout and not drawn.stderr
        data = picture.to_json()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        network = picture.to_networkx()
        assert (network.number_of_nodes(), network.number_of_edges()) == (len(picture.graph.nodes), len(picture.graph.edges))
        assert "</svg>" in picture.svg() and "</html>" in picture.to_html() and repr(picture)
        try:
            picture.to_torchviz()
        except UsageError as error:
            assert "torchviz" in str(error)
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(p, value) and p.grad is grad and p._version == version for p, (value, grad, version) in zip(held, before))


@pytest.mark.parametrize("part", ["gradnb.graph.build.steps.build", "gradnb.graph.fold.tree.fold", "gradnb.graph.draw.svg.draw"])
def test_a_fault_in_the_picture_costs_one_line_and_not_the_report(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report, _, _ = of_file("custom_function_drops")
    module, _, name = part.rpartition(".")
    importlib.import_module(module)

    def broken(*_: Any, **__: Any) -> None:
        raise RecursionError("a fault of the picture")

    monkeypatch.setattr(sys.modules[module], name, broken)
    html = report._repr_html_()
    assert "Gate.backward" in html and html.count("the graph could not be drawn") == 1 and "a fault of the picture" in html
    assert "Gate.backward" in repr(report)


def test_a_very_long_run_is_not_drawn_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    report, _, _ = of_file("grad_scaler")
    monkeypatch.setattr("gradnb.report.drawn.LARGE", 10)
    assert report.recording is not None
    assert f"The graph of these {len(report.recording.ops)} operations is not drawn here" in report._repr_html_()
    assert "</svg>" in report.graph.svg()
