"""Other threads, event loops, generators and worker processes beside the checked training."""

from __future__ import annotations

import textwrap

import pytest

from tests.twice import assert_healthy

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
x, y = torch.randn(32, 4), torch.randint(2, (32,))
"""

PROGRAMS = {
    "a thread that trains another model at the same time": """
        import threading
        other, data = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(64, 4)
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, v):
                return v * 2
            @staticmethod
            def backward(ctx, g):
                return g * 2
        def work():
            opt = torch.optim.Adam(other.parameters(), lr=0.01)
            for _ in range(60):
                opt.zero_grad()
                hidden = Double.apply(other[0](data))
                with torch.inference_mode():
                    hidden.mean()
                other[2](hidden).pow(2).mean().backward()
                opt.step()
            other.extra = nn.Parameter(torch.zeros(2))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(60):
            opt.zero_grad()
            F.cross_entropy(Double.apply(model(x)), y).backward()
            opt.step()
        thread.join()
        del thread
        """,
    "a thread that only evaluates": """
        import copy, threading
        snapshot, done = copy.deepcopy(model), []
        def evaluate():
            with torch.no_grad():
                for _ in range(50):
                    done.append(snapshot(x).argmax(1).sum().item())
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        thread = threading.Thread(target=evaluate)
        thread.start()
        for _ in range(30):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        thread.join()
        del thread
        """,
    "training in a thread while the cell waits": """
        import threading
        def train():
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(5):
                opt.zero_grad()
                F.cross_entropy(model(x), y).backward()
                opt.step()
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        del thread
        """,
    "threads whose gradients meet in one optimizer": """
        from concurrent.futures import ThreadPoolExecutor
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        with ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                opt.zero_grad()
                losses = list(pool.map(lambda part: F.cross_entropy(model(x[part]), y[part]), (slice(0, 16), slice(16, 32))))
                sum(losses).backward()
                opt.step()
        del pool
        """,
    "a backward pass in another thread": """
        import threading
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
            opt.step()
        del thread
        """,
    "an event loop": """
        import asyncio
        async def batches():
            for part in x.split(8):
                await asyncio.sleep(0)
                yield part
        async def main():
            opt = torch.optim.SGD(model.parameters(), lr=0.1)
            async for part in batches():
                opt.zero_grad()
                model(part).pow(2).mean().backward()
                opt.step()
        asyncio.run(main())
        """,
    "two tasks that train by turns": """
        import asyncio
        second = nn.Linear(4, 2)
        async def train(net):
            opt = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(4):
                opt.zero_grad()
                out = net(x)
                await asyncio.sleep(0)
                loss = F.cross_entropy(out, y)
                await asyncio.sleep(0)
                loss.backward()
                opt.step()
        async def main():
            await asyncio.gather(train(model), train(second))
        asyncio.run(main())
        """,
    "generators that yield batches and losses": """
        def batches():
            for part, label in zip(x.split(8), y.split(8)):
                yield part, label
        def losses():
            for part, label in batches():
                yield F.cross_entropy(model(part), label)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for loss in losses():
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    "a generator under no_grad that is left open": """
        @torch.no_grad()
        def features():
            for part in x.split(8):
                yield part * 2
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        source = features()
        for _ in range(3):
            opt.zero_grad()
            model(next(source)).pow(2).mean().backward()
            opt.step()
        source.close()
        """,
    "data loader workers": """
        from torch.utils.data import DataLoader, TensorDataset, random_split
        train, held = random_split(TensorDataset(x, y), [24, 8], generator=torch.Generator().manual_seed(1))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for a, b in DataLoader(train, batch_size=8, shuffle=True, num_workers=2):
            opt.zero_grad()
            F.cross_entropy(model(a), b).backward()
            opt.step()
        accuracy = [(model(a).argmax(1) == b).float().mean().item() for a, b in DataLoader(held, batch_size=8)]
        """,
    "a data set whose items are computed": """
        from torch.utils.data import DataLoader, Dataset
        class Waves(Dataset):
            def __len__(self):
                return 24
            def __getitem__(self, i):
                t = torch.linspace(0, 1, 4) * i
                return t.sin() + 0.01 * torch.randn(4), torch.tensor(i % 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for a, b in DataLoader(Waves(), batch_size=8, shuffle=True):
            opt.zero_grad()
            F.cross_entropy(model(a), b).backward()
            opt.step()
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_beside_others_is_the_same_and_silent(name: str) -> None:
    assert_healthy(HEAD + textwrap.dedent(PROGRAMS[name]), name)
