"""Healthy training with tensors of every kind: the same bits with and without the check, and nothing said."""

from __future__ import annotations

import textwrap
import time

import pytest

from tests.twice import assert_healthy, twice

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
"""

PROGRAMS = {
    "an embedding with sparse gradients": """
        model = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 2))
        opts = [torch.optim.SparseAdam(model[0].parameters(), lr=0.1), torch.optim.Adam(model[1:].parameters(), lr=0.1)]
        for _ in range(3):
            loss = F.cross_entropy(model(torch.randint(50, (16, 3))), torch.randint(2, (16,)))
            for o in opts: o.zero_grad()
            loss.backward()
            for o in opts: o.step()
        """,
    "a sparse COO adjacency times dense features": """
        edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
        adjacency = torch.sparse_coo_tensor(edges, torch.ones(5), (4, 4)).coalesce()
        lin1, lin2 = nn.Linear(5, 8), nn.Linear(8, 2)
        opt = torch.optim.SGD([*lin1.parameters(), *lin2.parameters()], lr=0.1)
        x, y = torch.randn(4, 5), torch.tensor([0, 1, 0, 1])
        for _ in range(3):
            opt.zero_grad()
            hidden = torch.sparse.mm(adjacency, lin1(x)).relu()
            loss = F.cross_entropy(torch.sparse.mm(adjacency, lin2(hidden)), y)
            loss.backward()
            opt.step()
        """,
    "a sparse COO leaf that learns its values": """
        indices = torch.tensor([[0, 1, 2], [2, 0, 1]])
        weight = torch.sparse_coo_tensor(indices, torch.randn(3), (3, 3)).coalesce().requires_grad_()
        x, y = torch.randn(3, 2), torch.randn(3, 2)
        for _ in range(3):
            loss = F.mse_loss(torch.sparse.mm(weight, x), y)
            loss.backward()
            with torch.no_grad():
                weight = (weight - 0.1 * weight.grad).coalesce().detach().requires_grad_()
        """,
    "a sparse CSR matrix": """
        matrix = torch.randn(6, 5).relu().to_sparse_csr()
        weight = nn.Parameter(torch.randn(5, 2))
        opt = torch.optim.Adam([weight], lr=0.1)
        y = torch.randn(6, 2)
        for _ in range(3):
            opt.zero_grad()
            loss = F.mse_loss(matrix @ weight, y)
            loss.backward()
            opt.step()
        """,
    "nested tensors of the strided layout": """
        model = nn.Linear(4, 3)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            batch = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(5, 4)])
            out = model(batch)
            loss = torch.nested.to_padded_tensor(out, 0.0).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    "nested tensors of the jagged layout": """
        model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            batch = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(5, 4)], layout=torch.jagged)
            loss = model(batch).values().pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    "quantisation aware training": """
        class Fake(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale, self.zero = nn.Parameter(torch.tensor([0.1])), nn.Parameter(torch.tensor([0.0]))
            def forward(self, x):
                return torch._fake_quantize_learnable_per_tensor_affine(x, self.scale, self.zero, -128, 127, 1.0)
        model = nn.Sequential(nn.Linear(4, 8), Fake(), nn.ReLU(), nn.Linear(8, 2))
        opt = torch.optim.SGD(model.parameters(), lr=0.01)
        x, y = torch.randn(16, 4), torch.randn(16, 2)
        for _ in range(3):
            opt.zero_grad()
            F.mse_loss(model(x), y).backward()
            opt.step()
        """,
    "quantised inputs": """
        stored = torch.quantize_per_tensor(torch.randn(16, 4), 0.05, 0, torch.qint8)
        model = nn.Linear(4, 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            model(stored.dequantize()).pow(2).mean().backward()
            opt.step()
        frozen = torch.quantize_per_channel(model.weight.detach(), torch.full((2,), 0.01), torch.zeros(2, dtype=torch.long), 0, torch.qint8)
        """,
    "complex parameters": """
        weight = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))
        phase = nn.Parameter(torch.randn(4))
        opt = torch.optim.Adam([weight, phase], lr=0.05)
        x, y = torch.randn(8, 4, dtype=torch.cfloat), torch.randn(8, 4)
        for _ in range(3):
            opt.zero_grad()
            out = (x @ weight) * torch.polar(torch.ones(4), phase)
            loss = (out.abs() - y).pow(2).mean() + torch.view_as_real(out).pow(2).mean() * 0.1
            loss.backward()
            opt.step()
        """,
    "a spectral layer": """
        class Spectral(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.view_as_real(torch.randn(9, dtype=torch.cfloat)))
            def forward(self, x):
                return torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(self.weight), n=16)
        model = nn.Sequential(Spectral(), nn.GELU(), Spectral())
        opt = torch.optim.Adam(model.parameters(), lr=0.05)
        x = torch.randn(8, 16)
        for _ in range(3):
            opt.zero_grad()
            F.mse_loss(model(x), x.roll(1, -1)).backward()
            opt.step()
        """,
    "a complex linear module": """
        model = nn.Linear(4, 2, dtype=torch.cdouble)
        opt = torch.optim.SGD(model.parameters(), lr=0.05)
        x, y = torch.randn(8, 4, dtype=torch.cdouble), torch.randn(8, 2, dtype=torch.cdouble)
        for _ in range(3):
            opt.zero_grad()
            (model(x) - y).abs().pow(2).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
        """,
    **{
        f"parameters of dtype {dtype}": f"""
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(torch.{dtype})
        opt = torch.optim.SGD(model.parameters(), lr=0.01)
        x, y = torch.randn(16, 4).to(torch.{dtype}), torch.randn(16, 2).to(torch.{dtype})
        for _ in range(3):
            opt.zero_grad()
            F.mse_loss(model(x), y).backward()
            opt.step()
        """
        for dtype in ("float16", "bfloat16", "float64")
    },
    "empty tensors and parameters without elements": """
        class Padded(nn.Module):
            def __init__(self):
                super().__init__()
                self.lin, self.extra = nn.Linear(4, 2), nn.Parameter(torch.empty(0, 2))
            def forward(self, x):
                return torch.cat([self.lin(x), self.extra])
        model = Padded()
        opt = torch.optim.Adam(model.parameters(), lr=0.1)
        for size in (4, 0, 4):
            opt.zero_grad()
            model(torch.randn(size, 4)).pow(2).sum().backward()
            opt.step()
        """,
    "a zero-dimensional parameter": """
        scale = nn.Parameter(torch.tensor(1.0))
        opt = torch.optim.SGD([scale], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            (scale * torch.randn(5) - 1).pow(2).mean().backward()
            opt.step()
        """,
    "a tensor subclass with its own torch function": """
        class Unit(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                return super().__torch_function__(func, types, args, kwargs or {})
        class Plain(torch.Tensor):
            pass
        model = nn.Linear(4, 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(8, 4).as_subclass(Unit)
        for _ in range(3):
            opt.zero_grad()
            loss = (model(x) * torch.ones(2)).as_subclass(Plain).pow(2).mean()
            loss.backward()
            opt.step()
        """,
    "a wrapper subclass with a torch dispatch": """
        from torch.utils._pytree import tree_map
        class Logged(torch.Tensor):
            count = 0
            @staticmethod
            def __new__(cls, inner, requires_grad=False):
                return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=requires_grad)
            def __init__(self, inner, requires_grad=False):
                self.inner = inner
            @classmethod
            def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
                Logged.count += 1
                strip = lambda t: t.inner if isinstance(t, Logged) else t
                out = func(*tree_map(strip, args), **tree_map(strip, kwargs or {}))
                return tree_map(lambda t: Logged(t) if isinstance(t, torch.Tensor) else t, out)
        weight = nn.Parameter(Logged(torch.randn(4, 2)))
        x = torch.randn(8, 4)
        for _ in range(3):
            loss = (Logged(x) @ weight).pow(2).mean()
            loss.backward()
            with torch.no_grad():
                weight.sub_(0.1 * weight.grad)
            weight.grad = None
        result, calls = weight.detach().inner, Logged.count
        """,
    "lazy modules that take their shape from the first batch": """
        model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
        x, y = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        model(x)
        opt = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        """,
    "lazy modules whose optimizer is built before the first batch": """
        model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 2))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.randn(4, 6), torch.tensor([0, 1, 0, 1])
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        """,
    "a lazy module that is never used is left uninitialised": """
        lazy = nn.LazyLinear(3)
        model = nn.Linear(4, 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad()
            model(torch.randn(4, 4)).pow(2).mean().backward()
            opt.step()
        """,
    "views of one flat parameter": """
        flat = nn.Parameter(torch.randn(4 * 3 + 3))
        opt = torch.optim.SGD([flat], lr=0.1)
        x = torch.randn(8, 4)
        for _ in range(3):
            opt.zero_grad()
            weight, bias = flat[:12].view(4, 3), flat[12:]
            (x @ weight + bias).tanh().pow(2).mean().backward()
            opt.step()
        """,
    "channels last and expanded tensors": """
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        model = model.to(memory_format=torch.channels_last)
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x = torch.randn(1, 3, 8, 8).expand(4, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x + torch.randn_like(x)), torch.tensor([0, 1, 0, 1])).backward()
            opt.step()
        """,
    "a model built on the meta device and filled later": """
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        model = model.to_empty(device="cpu")
        for p in model.parameters():
            nn.init.normal_(p, std=0.3)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            opt.step()
        """,
    "a state dict assigned to a meta model": """
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        saved = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).state_dict()
        model.load_state_dict(saved, assign=True)
        opt = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            opt.step()
        """,
    "a dry run on the meta device, backward and step included": """
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(3):
                opt.zero_grad()
                loss = F.mse_loss(model(torch.randn(8, 4)), torch.randn(8, 2))
                loss.backward()
                opt.step()
        shape, memory = tuple(loss.shape), sum(p.numel() for p in model.parameters())
        """,
    "fake tensors": """
        from torch._subclasses.fake_tensor import FakeTensorMode
        with FakeTensorMode():
            model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(2):
                opt.zero_grad()
                model(torch.randn(8, 4)).pow(2).mean().backward()
                opt.step()
        """,
    "masked tensors": """
        from torch.masked import as_masked_tensor
        weight = nn.Parameter(torch.randn(4, 3))
        opt = torch.optim.SGD([weight], lr=0.1)
        mask = torch.rand(4, 3) > 0.3
        for _ in range(3):
            opt.zero_grad()
            value = as_masked_tensor(weight * 2, mask)
            loss = (value * value).to_tensor(0.0).sum()
            loss.backward()
            weight.grad = weight.grad.to_tensor(0.0)
            opt.step()
        """,
    "a parametrized module": """
        from torch.nn.utils import parametrizations, parametrize
        class Symmetric(nn.Module):
            def forward(self, w):
                return w.triu() + w.triu(1).transpose(-1, -2)
        model = nn.Sequential(nn.Linear(4, 4), parametrizations.weight_norm(nn.Linear(4, 4)), parametrizations.orthogonal(nn.Linear(4, 4)),
                              parametrizations.spectral_norm(nn.Linear(4, 4)))
        parametrize.register_parametrization(model[0], "weight", Symmetric())
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            (model(torch.randn(8, 4)) - 1).pow(2).mean().backward()
            opt.step()
        """,
    "pruned weights": """
        from torch.nn.utils import prune
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        prune.l1_unstructured(model[0], "weight", amount=0.5)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            model(torch.randn(8, 4)).pow(2).mean().backward()
            opt.step()
        """,
    "distributed tensors without a process group": """
        import os, torch.distributed as dist
        from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh
        dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
        try:
            mesh = init_device_mesh("cpu", (1,))
            weight = nn.Parameter(distribute_tensor(torch.randn(4, 2), mesh, [Shard(0)]))
            opt = torch.optim.SGD([weight], lr=0.1)
            x = distribute_tensor(torch.randn(8, 4), mesh, [Replicate()])
            for _ in range(3):
                opt.zero_grad()
                loss = (x @ weight).pow(2).mean()
                loss.backward()
                opt.step()
            result = weight.full_tensor().detach().clone()
        finally:
            del weight, opt, x, loss
            dist.destroy_process_group()
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_healthy_training_with_exotic_tensors_is_the_same_and_silent(name: str) -> None:
    assert_healthy(HEAD + textwrap.dedent(PROGRAMS[name]), name)


BROKEN = {
    "an embedding with sparse gradients that is looked up without gradients": (
        "no-grad",
        """
        model = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 2))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            with torch.no_grad():  # <- here
                rows = model[0](torch.randint(50, (16, 3)))
            F.cross_entropy(model[1:](rows), torch.randint(2, (16,))).backward()
            opt.step()
        """,
    ),
    "complex numbers that leave through numpy": (
        "numpy",
        """
        weight = nn.Parameter(torch.randn(4, dtype=torch.cfloat))
        bias = nn.Parameter(torch.zeros(4))
        opt = torch.optim.SGD([weight, bias], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            spectrum = torch.from_numpy((weight * 2).detach().numpy())  # <- here
            (spectrum.abs() + bias).pow(2).sum().backward()
            opt.step()
        """,
    ),
    "a dry run on the meta device with a detach": (
        "detach",
        """
        with torch.device("meta"):
            body, head = nn.Linear(4, 8), nn.Linear(8, 2)
            opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
            for _ in range(2):
                opt.zero_grad()
                features = body(torch.randn(8, 4)).detach()  # <- here
                head(features).pow(2).mean().backward()
                opt.step()
        """,
    ),
    "a sparse matrix that is made of the values again": (
        "rewrap",
        """
        values, bias = nn.Parameter(torch.randn(3)), nn.Parameter(torch.zeros(3, 2))
        opt = torch.optim.SGD([values, bias], lr=0.1)
        indices = torch.tensor([[0, 1, 2], [2, 0, 1]])
        for _ in range(2):
            opt.zero_grad()
            matrix = torch.sparse_coo_tensor(indices, torch.tensor([v * 2 for v in values]), (3, 3))  # <- here
            (torch.sparse.mm(matrix, torch.randn(3, 2)) + bias).pow(2).mean().backward()
            opt.step()
        """,
    ),
    "a nested batch that is detached": (
        "detach",
        """
        body, head = nn.Linear(4, 8), nn.Linear(8, 2)
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(2):
            opt.zero_grad()
            batch = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(5, 4)], layout=torch.jagged)
            features = body(batch).detach()  # <- here
            head(features).values().pow(2).mean().backward()
            opt.step()
        """,
    ),
    "the ends of a range do not learn": (
        "nondifferentiable",
        """
        low, high, scale = (nn.Parameter(torch.tensor(v)) for v in (0.0, 1.0, 2.0))
        opt = torch.optim.SGD([low, high, scale], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            centres = torch.linspace(low, high, 5)  # <- here
            loss = (scale * centres - torch.arange(5.0)).pow(2).mean()
            loss.backward()
            opt.step()
        """,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_among_exotic_tensors_is_named(name: str) -> None:
    cause, source = BROKEN[name]
    found = twice(HEAD + textwrap.dedent(source), name)
    assert not found.different
    first = found.report.findings[0]
    assert (first.cause, first.location.line if first.location else None) == (cause, found.line()), repr(found.report)


def test_the_gradients_of_meta_tensors_are_unknown_and_not_called_nan_or_zero() -> None:
    found = assert_healthy(HEAD + textwrap.dedent(PROGRAMS["a dry run on the meta device, backward and step included"]))
    assert {(p.device, p.gradient, p.grad_norm) for p in found.report.parameters} == {("meta", "ok", None)}
    assert "nan" not in repr(found.report).lower()


def test_a_tiny_gradient_is_not_called_zero_and_a_huge_one_not_infinite() -> None:
    source = """
        small, large = nn.Parameter(torch.full((4,), 1.0)), nn.Parameter(torch.full((4,), 1.0))
        half = nn.Parameter(torch.full((64,), 1.0, dtype=torch.float16))
        opt = torch.optim.SGD([small, large, half], lr=1e-30)
        for _ in range(2):
            opt.zero_grad()
            ((small * 1e-28).sum() + (large * 1e22).sum() + (half * 60000).float().sum()).backward()
            opt.step()
        """
    found = twice(HEAD + textwrap.dedent(source))
    assert not found.different
    rows = {p.name: (p.gradient, p.grad_norm) for p in found.report.parameters}
    assert rows == {"small": ("ok", pytest.approx(2e-28)), "large": ("ok", pytest.approx(2e22)), "half": ("ok", pytest.approx(480000.0))}


@pytest.mark.slow
def test_ten_thousand_parameters_are_reported_in_time_and_in_little_space() -> None:
    source = """
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.lin1, self.lin2 = nn.Linear(2, 2), nn.Linear(2, 2)
            def forward(self, x):
                return x + 0.01 * self.lin2(self.lin1(x).tanh())
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(Block() for _ in range(2500))
            def forward(self, x):
                for i, block in enumerate(self.blocks):
                    x = block(x)
                    if cut and i == 1250:
                        x = x.detach()  # <- here
                return x
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=1e-6)
        for _ in range(2):
            opt.zero_grad()
            model(torch.randn(4, 2)).pow(2).mean().backward()
            opt.step()
        """
    for cut in (False, True):
        started = time.perf_counter()
        found = twice(HEAD + textwrap.dedent(source), before=f"cut = {cut}")
        took = time.perf_counter() - started
        assert not found.different
        assert len(found.report.parameters) == 10_000
        findings = [f for f in found.report.findings if f.severity in ("error", "warning")]
        assert [(f.cause, f.location.line) for f in findings if f.location] == ([("detach", found.line())] if cut else [])
        if cut:
            assert 5000 <= len(findings[0].affected) < 5010
        assert len(found.report._repr_html_().encode()) < 60_000
        assert len(repr(found.report)) < 10_000
        assert took < 60, f"{took:.0f} s"
