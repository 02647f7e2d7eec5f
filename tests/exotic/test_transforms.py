"""Programs that transform functions and graphs: torch.func, torch.compile, torch.jit, torch.fx, torch.export."""

from __future__ import annotations

import shutil
import textwrap

import pytest

from tests.twice import assert_healthy, twice

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
torch._dynamo.reset() if "torch._dynamo" in __import__("sys").modules else None
model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
x, y = torch.randn(32, 4), torch.randint(2, (32,))
"""

PROGRAMS = {
    "gradients of a functional call": """
        from torch.func import functional_call, grad
        params = {k: v.detach().clone() for k, v in model.named_parameters()}
        def loss_of(params):
            return F.cross_entropy(functional_call(model, params, (x,)), y)
        for _ in range(3):
            grads = grad(loss_of)(params)
            params = {k: v - 0.1 * grads[k] for k, v in params.items()}
        final = loss_of(params).item()
        """,
    "gradients for each sample, put into an optimizer": """
        from torch.func import functional_call, grad, vmap
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        def loss_of(params, a, b):
            return F.cross_entropy(functional_call(model, params, (a[None],)), b[None])
        for _ in range(3):
            params = {k: v.detach() for k, v in model.named_parameters()}
            each = vmap(grad(loss_of), (None, 0, 0))(params, x, y)
            for k, p in model.named_parameters():
                norm = each[k].flatten(1).norm(dim=1).clamp(min=1.0)
                p.grad = (each[k] / norm.view(-1, *[1] * (each[k].dim() - 1))).mean(0)
            opt.step()
        """,
    "an ensemble under vmap": """
        from torch.func import functional_call, stack_module_state, vmap
        import copy
        models = [nn.Linear(4, 2) for _ in range(3)]
        params, buffers = stack_module_state(models)
        base = copy.deepcopy(models[0]).to("meta")
        opt = torch.optim.SGD(params.values(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            outs = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)
            loss = F.cross_entropy(outs.flatten(0, 1), y.repeat(3))
            loss.backward()
            opt.step()
        """,
    "a physics loss with derivatives by vmap": """
        from torch.func import grad, jacrev, hessian, vmap
        net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
        opt = torch.optim.Adam(net.parameters(), lr=0.01)
        u = lambda t: net(t.view(1)).squeeze()
        points = torch.linspace(0, 1, 20)
        for _ in range(3):
            opt.zero_grad()
            residual = vmap(grad(grad(u)))(points) + vmap(u)(points)
            loss = residual.pow(2).mean() + (u(points[0]) - 1) ** 2
            loss.backward()
            opt.step()
        """,
    "jacobians, hessians and jvps": """
        from torch.func import hessian, jacfwd, jacrev, jvp, vjp
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad()
            jac = jacrev(lambda v: model(v).sum(0))(x[:2])
            fwd = jacfwd(lambda v: model(v).sum(0))(x[:2])
            _, tangent = jvp(model, (x,), (torch.ones_like(x),))
            loss = jac.pow(2).mean() + fwd.pow(2).mean() + tangent.pow(2).mean() + F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
        out, pull = vjp(lambda v: model(v).sum(), x)
        back, = pull(torch.tensor(1.0))
        second = hessian(lambda v: model(v).pow(2).sum())(x[0])
        """,
    "meta learning by functional calls": """
        from torch.func import functional_call
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            params = dict(model.named_parameters())
            inner = F.cross_entropy(functional_call(model, params, (x[:16],)), y[:16])
            grads = torch.autograd.grad(inner, list(params.values()), create_graph=True)
            fast = {k: p - 0.1 * g for (k, p), g in zip(params.items(), grads)}
            F.cross_entropy(functional_call(model, fast, (x[16:],)), y[16:]).backward()
            opt.step()
        """,
    "forward mode with dual numbers": """
        import torch.autograd.forward_ad as fwAD
        weight = nn.Parameter(torch.randn(4))
        opt = torch.optim.SGD([weight], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            with fwAD.dual_level():
                dual = fwAD.make_dual(x, torch.ones_like(x))
                tangent = fwAD.unpack_dual((dual * weight).sin()).tangent
                tangent.pow(2).mean().backward()
            opt.step()
        """,
    "a custom function under vmap": """
        class Cube(torch.autograd.Function):
            generate_vmap_rule = True
            @staticmethod
            def forward(v):
                return v**3
            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)
            @staticmethod
            def backward(ctx, g):
                v, = ctx.saved_tensors
                return g * 3 * v**2
        opt = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            opt.zero_grad()
            torch.func.vmap(lambda v: Cube.apply(model(v)))(x).mean().backward()
            opt.step()
        """,
    "a compiled model, eager backend": """
        fast = torch.compile(model, backend="eager")
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            opt.step()
        """,
    "a compiled model, AOT backend": """
        fast = torch.compile(model, backend="aot_eager")
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            opt.step()
        """,
    "a compiled training step with a graph break": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        seen = []
        @torch.compile(backend="eager")
        def step(a, b):
            hidden = model(a)
            seen.append(1)
            print("broken here")
            return F.cross_entropy(hidden, b)
        for _ in range(3):
            opt.zero_grad()
            loss = step(x, y)
            loss.backward()
            opt.step()
        """,
    "a compiled optimizer step": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        @torch.compile(backend="eager")
        def step():
            opt.step()
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            step()
        """,
    "a whole iteration compiled": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        @torch.compile(backend="aot_eager")
        def iteration(a, b):
            opt.zero_grad()
            loss = F.cross_entropy(model(a), b)
            loss.backward()
            opt.step()
            return loss.detach()
        losses = [iteration(x, y).item() for _ in range(4)]
        """,
    "a compiled loss that reads a frozen teacher": """
        teacher = nn.Linear(4, 2).requires_grad_(False)
        fast_teacher = torch.compile(teacher, backend="eager")
        @torch.compile(backend="eager", dynamic=True)
        def loss_of(logits, goal):
            return F.kl_div(logits.log_softmax(1), goal.softmax(1), reduction="batchmean")
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for part in x.split([8, 10, 14]):
            with torch.no_grad():
                goal = fast_teacher(part)
            opt.zero_grad()
            loss_of(model(part), goal).backward()
            opt.step()
        """,
    "a function that is kept out of compilation": """
        @torch.compiler.disable
        def outside(v):
            return v * 2
        @torch.compile(backend="eager")
        def forward(v):
            return outside(model(v).sin()).cos()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(forward(x), y).backward()
            opt.step()
        """,
    "a module that compiles itself in place": """
        model.compile(backend="eager")
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        """,
    "a model that was compiled before the cell": """
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            opt.step()
        """,
    "a scripted and a traced model": """
        scripted, traced = torch.jit.script(model), torch.jit.trace(nn.Linear(4, 2), x)
        opt = torch.optim.SGD([*scripted.parameters(), *traced.parameters()], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(scripted(x) + traced(x), y).backward()
            opt.step()
        """,
    "a scripted function": """
        @torch.jit.script
        def gelu(v):
            return v * 0.5 * (1.0 + torch.erf(v / 1.41421))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(gelu(model(x)), y).backward()
            opt.step()
        """,
    "a model traced by fx": """
        import torch.fx
        graph = torch.fx.symbolic_trace(model)
        for node in graph.graph.nodes:
            if node.op == "call_module" and node.target == "1":
                with graph.graph.inserting_after(node):
                    new = graph.graph.call_function(torch.relu, (node,))
                    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        graph.recompile()
        opt = torch.optim.SGD(graph.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(graph(x), y).backward()
            opt.step()
        code = graph.code
        """,
    "an exported program": """
        exported = torch.export.export(model, (x,)).module()
        opt = torch.optim.SGD(exported.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(exported(x), y).backward()
            opt.step()
        """,
    "an operator of the user's own library": """
        @torch.library.custom_op("gradnb_tests::twice", mutates_args=())
        def double(v: torch.Tensor) -> torch.Tensor:
            return v * 2
        double.register_autograd(lambda ctx, g: g * 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(double(model(x)), y).backward()
            opt.step()
        """,
    "a branch inside the graph": """
        from torch._higher_order_ops import cond
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            opt.zero_grad()
            out = cond(x.sum() > 0, lambda v: v.sin(), lambda v: v * 2, (model(x),))
            F.cross_entropy(out, y).backward()
            opt.step()
        """,
}
BEFORE = {
    "a model that was compiled before the cell": """
        fast = torch.compile(model, backend="eager")
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        F.cross_entropy(fast(x), y).backward()
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_transformed_programs_are_the_same_and_silent(name: str) -> None:
    if name in BEFORE:
        assert_healthy(PROGRAMS[name], name, before=HEAD + textwrap.dedent(BEFORE[name]))
    else:
        assert_healthy(HEAD + textwrap.dedent(PROGRAMS[name]), name)


@pytest.mark.slow
def test_a_model_compiled_by_inductor_is_the_same_and_silent() -> None:
    if shutil.which("c++") is None:
        pytest.skip("inductor needs a C++ compiler")
    source = """
        fast = torch.compile(model)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            opt.step()
        """
    assert_healthy(HEAD + textwrap.dedent(source))


BROKEN = {
    "a compiled network that is detached outside": (
        "detach",
        """
        body, head = torch.compile(nn.Linear(4, 8), backend="eager"), nn.Linear(8, 2)
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(head(body(x).detach()), y).backward()  # <- here
            opt.step()
        """,
    ),
    "a cut inside of a compiled function": (
        "nondifferentiable",
        """
        body, head = nn.Linear(4, 8), nn.Linear(8, 2)
        @torch.compile(backend="aot_eager")
        def features(v):
            return body(v).detach().relu()
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(head(features(x)), y).backward()  # <- here
            opt.step()
        """,
    ),
    "the same cut where compilation is switched off by a stance": (
        "detach",
        """
        body, head = nn.Linear(4, 8), nn.Linear(8, 2)
        @torch.compile(backend="aot_eager")
        def features(v):
            return body(v).detach().relu()  # <- here
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        with torch.compiler.set_stance("force_eager"):
            for _ in range(3):
                opt.zero_grad()
                F.cross_entropy(head(features(x)), y).backward()
                opt.step()
        """,
    ),
    "a functional call with detached parameters": (
        "detach",
        """
        body, head = nn.Linear(4, 8), nn.Linear(8, 2)
        opt = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            params = {k: v.detach() for k, v in body.named_parameters()}  # <- here
            F.cross_entropy(head(torch.func.functional_call(body, params, (x,))), y).backward()
            opt.step()
        """,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_among_transformed_programs_is_named(name: str) -> None:
    cause, source = BROKEN[name]
    found = twice(HEAD + textwrap.dedent(source), name)
    assert not found.different
    first = found.report.findings[0]
    assert (first.cause, first.location.line if first.location else None) == (cause, found.line()), repr(found.report)


COUNTED = """\
compiled = []
def backend(graph, inputs):
    compiled.append(1)
    return graph.forward
"""


def test_a_compiled_model_is_not_compiled_again_by_the_check_nor_after_it() -> None:
    before = HEAD + COUNTED + "fast = torch.compile(model, backend=backend)\nF.cross_entropy(fast(x), y).backward()\n"
    source = """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            opt.step()
        """
    found = assert_healthy(source, before=before)
    compiled, names = found.names["compiled"], found.names
    assert len(compiled) == 1
    names["fast"](names["x"])
    assert len(compiled) == 1


def test_a_compiled_region_is_one_operation_and_everything_is_back_in_place_when_it_raises() -> None:
    from tests.recorder.test_recorder import snapshot

    before = snapshot()
    source = """
        @torch.compile(backend="eager")
        def loss_of(a, b, stop):
            if stop:
                raise ValueError("stop here")
            return F.cross_entropy(model(a), b)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for i in range(4):
            opt.zero_grad()
            loss_of(x, y, i == 3).backward()
            opt.step()
        """
    found = twice(HEAD + textwrap.dedent(source))
    assert not found.different
    assert isinstance(found.errors[0], ValueError)
    assert snapshot() == before
    assert [s.kind for s in found.report.steps].count("backward") == 3
    assert all(p.reached for p in found.report.parameters)
