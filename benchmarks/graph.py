"""What the graph costs: tracing a forward pass beside torchviz, torchview and torchlens, and drawing a graph of 8,500 nodes.

    python benchmarks/graph.py [--check] [--quick] [--only NAME]

Traces: one process, one thread, all tools take turns; a figure is the median over the rounds of (traced forward pass) / (bare
forward pass of that round). For gradnb that is a forward pass inside an open check, as a training cell makes many of them; what
opening and closing the check and building the graph costs once is printed beside it. torchviz walks grad_fn and knows no line;
torchview and torchlens start anew for each pass, as they are made. Drawing by `dot` is left out everywhere. Tools that are not
installed (the test extra has them) are skipped and said. The last line is JSON; --check exits 1 where a figure misses its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gradnb
from gradnb.graph.picture import Picture

sys.path.insert(0, str(Path(__file__).parent))
from figures import end  # noqa: E402
from models import GPT2, MLP, ResNet18  # noqa: E402

LIMITS = {
    "trace-mlp": 1.5,
    "trace-resnet": 1.15,
    "trace-gpt2": 1.1,
    "nodes-8500-recorded-seconds": 2.0,
    "nodes-8500-walked-seconds": 2.0,
    "gpt2-report-kb": 100.0,
    "gpt2-page-kb": 400.0,
}
EVERY = 10**9  # steps recorded whole
PASSES = 3  # forward passes that are timed together


def models() -> dict[str, tuple[nn.Module, torch.Tensor, int]]:
    """Name -> model, input, rounds."""
    return {
        "mlp": (MLP(), torch.randn(64, 784), 40),
        "resnet": (ResNet18(), torch.randn(8, 3, 32, 32), 16),
        "gpt2": (GPT2(layers=12, width=768, heads=12, vocabulary=50257), torch.randint(50257, (1, 64)), 8),
    }


# -- the tools -------------------------------------------------------------------------------------------------------------


def _torchviz(model: nn.Module, x: torch.Tensor) -> object:
    from torchviz import make_dot

    return make_dot(model(x).sum(), params=dict(model.named_parameters()))


def _torchview(model: nn.Module, x: torch.Tensor) -> object:
    from torchview import draw_graph

    return draw_graph(model, input_data=x, expand_nested=True, mode="train")


def _torchlens(model: nn.Module, x: torch.Tensor) -> object:
    import torchlens

    return torchlens.trace(model, x)


def _walk(model: nn.Module, x: torch.Tensor) -> object:
    return gradnb.graph(model(x).sum(), model)  # type: ignore[operator]


PEERS: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {"torchviz": _torchviz, "torchview": _torchview, "torchlens": _torchlens}


def installed(names: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, tool in names.items():
        try:
            __import__(name)
        except ImportError as error:
            print(f"{name:<16}skipped: {error}")
        else:
            kept[name] = tool
    return kept


def timed(what: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        what()
    return (time.perf_counter() - start) / repeats


def traces(name: str, model: nn.Module, x: torch.Tensor, rounds: int, peers: dict[str, Any]) -> dict[str, float]:
    """Ratios to the bare forward pass, and what gradnb costs once in milliseconds."""
    seen: dict[str, list[float]] = {key: [] for key in ("bare", "recorded", "walked", *peers)}
    once: list[float] = []
    for tool in (*peers.values(), _walk):
        tool(model, x)  # what is set up on the first call is nobody's price
    for index in range(rounds):
        seen["bare"].append(timed(lambda: model(x), PASSES))
        start = time.perf_counter()
        with gradnb.check(steps=EVERY) as report:
            model(x)
            opened = time.perf_counter() - start
            inside = timed(lambda: model(x), PASSES)
            start = time.perf_counter()
        closed = time.perf_counter() - start
        seen["recorded"].append(inside)
        once.append(1000 * (opened - inside + closed))
        seen["walked"].append(timed(lambda: _walk(model, x), 1))
        if index % 4 == 0:  # the peers are slow, and their ratios are large
            for key, tool in peers.items():
                seen[key].append(timed(lambda tool=tool: tool(model, x), 1))
        del report
    figures = {key: statistics.median(times) / statistics.median(seen["bare"]) for key, times in seen.items() if key != "bare"}
    figures["recorded"] = statistics.median(r / b for r, b in zip(seen["recorded"], seen["bare"], strict=True))
    return {**figures, "once_ms": statistics.median(once), "bare_ms": 1000 * statistics.median(seen["bare"])}


# -- a large graph, and the sizes of what is written ------------------------------------------------------------------------


def chain(nodes: int) -> nn.Sequential:
    """Linear and ReLU in turn: four nodes a pair, with the weight and the bias."""
    return nn.Sequential(*[m for _ in range(nodes // 4) for m in (nn.Linear(4, 4), nn.ReLU())])


def large(nodes: int) -> dict[str, float]:
    """Seconds from what was recorded, or from the bare loss, to the SVG."""
    model, x = chain(nodes), torch.randn(2, 4)
    with gradnb.check() as report:
        model(x).sum().backward()
    start = time.perf_counter()
    picture = report.graph
    text = picture.svg()
    recorded = time.perf_counter() - start
    made = len(picture.graph.nodes)
    assert text.startswith("<svg") and made >= nodes, made
    loss = model(x).sum()
    start = time.perf_counter()
    walked = gradnb.graph(loss, model)  # type: ignore[operator]
    walked.svg()
    return {"recorded": recorded, "walked": time.perf_counter() - start, "nodes": made, "walked-nodes": len(walked.graph.nodes)}


def sizes() -> dict[str, float]:
    """Kilobytes of the report of a broken GPT-2-small-shaped training cell: as a notebook keeps it, and as a page."""
    torch.manual_seed(0)
    model = GPT2(layers=12, width=96, heads=12, vocabulary=128, detach_after=5)  # the size of the numbers changes no byte of the picture
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    tokens = torch.randint(128, (2, 17))
    with contextlib.redirect_stdout(io.StringIO()), gradnb.check() as report:
        for _ in range(5):
            optimizer.zero_grad()
            logits = model(tokens[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step()
    static = report._repr_html_()
    assert "lost" in static, "the report of a broken model must show the cut"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        report.to_html(str(page))
        written = page.stat().st_size
    picture: Picture = report.graph
    return {"report": len(static.encode()) / 1000, "page": written / 1000, "svg": len(picture.svg().encode()) / 1000}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is over its limit")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    parser.add_argument("--only", default="", help="only the measurements whose name holds this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    figures: dict[str, float] = {}
    over: list[str] = []

    def note(name: str, value: float, text: str) -> None:
        figures[name] = round(value, 4)
        bad = value > LIMITS[name]
        over.extend([name] if bad else [])
        print(f"{name:<30}{text}   limit {LIMITS[name]:g}{'   OVER' if bad else ''}", flush=True)

    if "trace".startswith(args.only) or args.only.startswith("trace"):
        peers = installed(PEERS)
        for name, (model, x, rounds) in models().items():
            if args.only in f"trace-{name}":
                got = traces(name, model, x, max(4, rounds // 4) if args.quick else rounds, peers)
                others = ", ".join(f"{key} {got[key]:.2f}" for key in peers)
                note(
                    f"trace-{name}",
                    got["recorded"],
                    f"{got['recorded']:.3f} x bare ({got['bare_ms']:.2f} ms), once {got['once_ms']:.1f} ms; "
                    f"gradnb.graph(loss, model) {got['walked']:.2f}; {others}",
                )
                figures.update({f"{name}-{key}": round(value, 4) for key, value in got.items() if key != "recorded"})
    if args.only in "nodes-8500-recorded-seconds" or args.only in "nodes-8500-walked-seconds":
        got = large(8500)
        note("nodes-8500-recorded-seconds", got["recorded"], f"{got['recorded']:.2f} s from the recording to the SVG, {got['nodes']} nodes")
        told = f"{got['walked']:.2f} s from the bare loss to the SVG, {got['walked-nodes']} nodes"
        note("nodes-8500-walked-seconds", got["walked"], told)
    if args.only in "gpt2-report-kb" or args.only in "gpt2-page-kb":
        got = sizes()
        note("gpt2-report-kb", got["report"], f"{got['report']:.1f} kB in the notebook, of it the picture {got['svg']:.1f} kB")
        note("gpt2-page-kb", got["page"], f"{got['page']:.1f} kB with the explorer")
    return end(figures, over, args.check)


if __name__ == "__main__":
    sys.exit(main())
