"""Healthy training with the tools that people use around it: the same bits with and without the check, and nothing said."""

from __future__ import annotations

import textwrap

import pytest

from tests.twice import assert_healthy

HEAD = """\
import copy, torch
import torch.nn as nn
import torch.nn.functional as F
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
x, y = torch.randn(32, 4), torch.randint(2, (32,))
"""

PROGRAMS = {
    "checkpointing without re-entry": """
        from torch.utils.checkpoint import checkpoint
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(checkpoint(model, x, use_reentrant=False), y).backward()
            opt.step()
        """,
    "reentrant checkpointing of inputs that require grad": """
        from torch.utils.checkpoint import checkpoint
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            hidden = model[0](x)
            F.cross_entropy(checkpoint(lambda h: model[2](model[1](h)), hidden, use_reentrant=True), y).backward()
            opt.step()
        """,
    "checkpointing with dropout in a sequence": """
        from torch.utils.checkpoint import checkpoint_sequential
        model = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Tanh()) for _ in range(6)], nn.Linear(4, 2))
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(checkpoint_sequential(model, 3, x, use_reentrant=False), y).backward()
            opt.step()
        """,
    "saved tensors kept as half precision on the side": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        packed = []
        def pack(t):
            packed.append(t.numel())
            return t.detach().half() if t.is_floating_point() and not isinstance(t, nn.Parameter) else t
        def unpack(t):
            return t.float() if t.dtype == torch.float16 else t
        for _ in range(3):
            opt.zero_grad()
            with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
        """,
    "saved tensors on the CPU": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            with torch.autograd.graph.save_on_cpu():
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
        """,
    "hooks of every kind": """
        seen = []
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        model[0].register_forward_pre_hook(lambda m, a: (a[0] * 1.01,))
        model[0].register_forward_hook(lambda m, a, out: out + 0.01)
        model[2].register_full_backward_hook(lambda m, gi, go: seen.append(float(go[0].abs().sum())))
        model[2].register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
        model[0].weight.register_hook(lambda g: g.clamp(-1, 1))
        model[2].weight.register_post_accumulate_grad_hook(lambda p: seen.append(float(p.grad.norm())))
        opt.register_step_pre_hook(lambda o, a, k: seen.append("before"))
        opt.register_step_post_hook(lambda o, a, k: seen.append("after"))
        for _ in range(3):
            opt.zero_grad()
            out = model(x)
            out.retain_grad()
            out.register_hook(lambda g: seen.append(g.shape[0]))
            loss = F.cross_entropy(out, y)
            loss.grad_fn.register_prehook(lambda g: None)
            loss.backward()
            seen.append(out.grad.sum().item())
            opt.step()
        """,
    "an optimizer step inside the backward pass": """
        opts = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}
        def apply(p):
            opts[p].step()
            opts[p].zero_grad()
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(apply)
        for _ in range(3):
            F.cross_entropy(model(x), y).backward()
        """,
    "a copy of the model in the middle of training": """
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        best, copies = None, []
        for _ in range(4):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            if best is None or loss.item() < best:
                best = loss.item()
                copies.append(copy.deepcopy(model))
        state = copy.deepcopy(opt.state_dict())
        model.load_state_dict(copies[0].state_dict())
        """,
    "an exponential moving average": """
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        by_hand = copy.deepcopy(model)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
            average.update_parameters(model)
            with torch.no_grad():
                for a, b in zip(by_hand.parameters(), model.parameters()):
                    a.lerp_(b, 0.1)
        """,
    "stochastic weight averaging with its schedule": """
        from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        average = AveragedModel(model)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = SWALR(opt, swa_lr=0.05)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
        for epoch in range(2):
            for a, b in loader:
                opt.zero_grad()
                F.cross_entropy(model(a), b).backward()
                opt.step()
            average.update_parameters(model)
            schedule.step()
        update_bn(loader, average)
        """,
    "LBFGS with its closure": """
        opt = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")
        def closure():
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss
        losses = [opt.step(closure).item() for _ in range(3)]
        """,
    "learning rate schedules": """
        opt = torch.optim.AdamW(model.parameters(), lr=0.01)
        warm = torch.optim.lr_scheduler.LinearLR(opt, 0.1, total_iters=2)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 5)
        schedule = torch.optim.lr_scheduler.SequentialLR(opt, [warm, cosine], [2])
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt)
        for _ in range(4):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            schedule.step()
            plateau.step(loss.item())
        rates = schedule.get_last_lr()
        """,
    "one cycle": """
        opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=8)
        for _ in range(8):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
            schedule.step()
        """,
    "clipped gradients": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        norms = []
        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
            nn.utils.clip_grad_value_(model.parameters(), 0.5)
            opt.step()
        """,
    "autocast to bfloat16": """
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
        """,
    "a gradient scaler with clipping": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for _ in range(4):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = F.cross_entropy(model(x).float(), y)
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(opt)
            scaler.update()
        scale = scaler.get_scale()
        """,
    "a gradient scaler that skips its first steps": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=100, backoff_factor=2.0**-8)
        for _ in range(8):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = F.cross_entropy(model(x).float(), y)
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        scale = scaler.get_scale()
        """,
    "accumulated gradients with a remainder": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = list(zip(x.split(6), y.split(6)))
        for epoch in range(2):
            for i, (a, b) in enumerate(batches):
                (F.cross_entropy(model(a), b) / 2).backward()
                if i % 2 == 1 or i == len(batches) - 1:
                    opt.step()
                    opt.zero_grad()
        """,
    "alternating optimizers of a GAN": """
        gen, disc = nn.Linear(3, 4), nn.Linear(4, 1)
        opt_g, opt_d = torch.optim.Adam(gen.parameters(), lr=0.01), torch.optim.Adam(disc.parameters(), lr=0.01)
        ones, zeros = torch.ones(32, 1), torch.zeros(32, 1)
        for _ in range(4):
            fake = gen(torch.randn(32, 3))
            opt_d.zero_grad()
            loss_d = F.binary_cross_entropy_with_logits(disc(x), ones) + F.binary_cross_entropy_with_logits(disc(fake.detach()), zeros)
            loss_d.backward()
            opt_d.step()
            opt_g.zero_grad()
            loss_g = F.binary_cross_entropy_with_logits(disc(fake), ones)
            loss_g.backward()
            opt_g.step()
        """,
    "a gradient penalty": """
        critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = torch.optim.Adam(critic.parameters(), lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            mixed = x.clone().requires_grad_()
            slope, = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            (critic(x).mean() + 10 * (slope.norm(dim=1) - 1).pow(2).mean()).backward()
            opt.step()
        """,
    "a straight-through estimator and a custom function": """
        class Round(torch.autograd.Function):
            @staticmethod
            def forward(ctx, v):
                return v.round()
            @staticmethod
            def backward(ctx, g):
                return g
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            h = model[0](x)
            h = h + (h.round() - h).detach()
            F.cross_entropy(Round.apply(model[2](h) * 4) / 4, y).backward()
            opt.step()
        """,
    "truncated backpropagation through time": """
        cell, head = nn.GRUCell(4, 8), nn.Linear(8, 2)
        opt = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)
        state = torch.zeros(32, 8)
        for _ in range(4):
            state = state.detach()
            loss = 0.0
            for _ in range(3):
                state = cell(x, state)
                loss = loss + F.cross_entropy(head(state), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    "packed sequences": """
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
        lstm, head = nn.LSTM(4, 8, batch_first=True, bidirectional=True), nn.Linear(16, 2)
        opt = torch.optim.Adam([*lstm.parameters(), *head.parameters()], lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            packed = pack_padded_sequence(torch.randn(3, 7, 4), torch.tensor([7, 5, 2]), batch_first=True)
            out, lengths = pad_packed_sequence(lstm(packed)[0], batch_first=True)
            F.cross_entropy(head(out.mean(1)), torch.tensor([0, 1, 0])).backward()
            opt.step()
        """,
    "a transformer with masks": """
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        enc, head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 2)
        opt = torch.optim.AdamW([*enc.parameters(), *head.parameters()], lr=0.01)
        causal = nn.Transformer.generate_square_subsequent_mask(5)
        pad = torch.zeros(4, 5, dtype=torch.bool)
        pad[:, 4] = True
        for _ in range(3):
            opt.zero_grad()
            out = enc(torch.randn(4, 5, 8), mask=causal, src_key_padding_mask=pad.float().masked_fill(pad, float("-inf")))
            F.cross_entropy(head(out.mean(1)), torch.tensor([0, 1, 0, 1])).backward()
            opt.step()
        """,
    "weights that are tied": """
        emb, out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        out.weight = emb.weight
        opt = torch.optim.Adam({*emb.parameters(), *out.parameters()}, lr=0.01)
        for _ in range(3):
            opt.zero_grad()
            tokens = torch.randint(20, (4, 6))
            F.cross_entropy(out(emb(tokens))[:, :-1].reshape(-1, 20), tokens[:, 1:].reshape(-1)).backward()
            opt.step()
        """,
    "the gradients of two losses, one kept graph": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            out = model(x)
            F.cross_entropy(out, y).backward(retain_graph=True)
            (out.pow(2).mean() * 0.01).backward()
            opt.step()
        """,
    "evaluation between the steps": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        accuracy = []
        for _ in range(3):
            model.train()
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
            model.eval()
            with torch.inference_mode():
                accuracy.append((model(x).argmax(1) == y).float().mean().item())
        """,
    "a checkpoint saved and resumed": """
        import io
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
        file = io.BytesIO()
        for i in range(4):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
            if i == 1:
                torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "rng": torch.get_rng_state()}, file)
        file.seek(0)
        saved = torch.load(file)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        """,
    "every optimizer of torch": """
        import inspect
        for cls in sorted({c for c in vars(torch.optim).values() if inspect.isclass(c)}, key=lambda c: c.__name__):
            if cls.__name__ in ("Optimizer", "SparseAdam", "LBFGS"):
                continue
            net = nn.Linear(4, 2, bias=cls.__name__ != "Muon")
            opt = cls(net.parameters(), lr=0.01)
            for _ in range(2):
                opt.zero_grad()
                F.cross_entropy(net(x), y).backward()
                opt.step()
        """,
    "anomaly detection": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        with torch.autograd.detect_anomaly(check_nan=True):
            for _ in range(2):
                opt.zero_grad()
                F.cross_entropy(model(x), y).backward()
                opt.step()
        """,
    "the profiler": """
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(2):
                opt.zero_grad()
                F.cross_entropy(model(x), y).backward()
                opt.step()
                profile.step()
        del profile
        """,
    "a default device and a default dtype": """
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("cpu")
        try:
            model = nn.Linear(4, 2)
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(2):
                opt.zero_grad()
                model(torch.randn(8, 4)).pow(2).mean().backward()
                opt.step()
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_default_device(None)
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_healthy_training_is_the_same_and_silent(name: str) -> None:
    assert_healthy(HEAD + textwrap.dedent(PROGRAMS[name]), name)
