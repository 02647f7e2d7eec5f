"""What data loaders, samplers and the loops around them keep: it goes on exactly, or it is said that it does not."""

from __future__ import annotations

import random
import sys
import types

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, Subset, TensorDataset

from gradnb.checkpoint import Checkpointer


class Stream(IterableDataset):
    """Its order, and a long history, are its state; each pass ends by drawing a new order."""

    def __init__(self):
        self.done, self.order, self.drawn = 0, torch.randperm(20), [0.5] * 70

    def __iter__(self):
        while self.done < 20:
            self.done += 1
            self.drawn.append(random.random())
            yield self.order[self.done - 1] + self.drawn[-1]
        self.done, self.order = 0, torch.randperm(20)

    def state_dict(self):
        return {"done": self.done, "order": self.order, "drawn": self.drawn}

    def load_state_dict(self, state):
        self.done, self.order, self.drawn = state["done"], state["order"].clone(), list(state["drawn"])


class Skipping(IterableDataset):
    """Its state is the position in a pass; loaded, it makes the next pass shorter."""

    def __init__(self):
        self.first, self.at = 0, 0

    def __iter__(self):
        for at in range(self.first, 20):
            self.at = at
            yield torch.rand(()) + at
        self.first = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.first = state["at"] + 1


class Curriculum(Dataset):
    """A map-style dataset whose samples depend on how many it has given."""

    def __init__(self):
        self.given = torch.zeros(())

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.given += 1
        return self.given * 0.1 + index + torch.rand(())

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"].clone()


class Resumable(Sampler):
    """A sampler that skips what its loaded state says is done."""

    def __init__(self):
        self.passes, self.at, self.skip = 0, 0, 0

    def __len__(self):
        return 20

    def __iter__(self):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(self.passes)).tolist()
        begin, self.skip = self.skip, 0
        for self.at in range(begin, 20):
            yield order[self.at]
        self.passes, self.at = self.passes + 1, 0

    def state_dict(self):
        return {"passes": self.passes, "at": self.at}

    def load_state_dict(self, state):
        self.passes, self.skip = state["passes"], state["at"]


def sampled() -> DataLoader:
    return DataLoader(TensorDataset(torch.arange(20.0)), batch_size=4, sampler=Resumable())


LOADERS = {
    "a stream": lambda: [DataLoader(Stream(), batch_size=4)],
    "a stream that skips": lambda: [DataLoader(Skipping(), batch_size=4)],
    "a curriculum": lambda: [DataLoader(Curriculum(), batch_size=4, shuffle=True)],
    "a subset of a curriculum": lambda: [DataLoader(Subset(Curriculum(), range(20)), batch_size=4, shuffle=True)],
    "a resumable sampler": lambda: [sampled()],
    "several in an epoch": lambda: [DataLoader(Stream(), batch_size=4), DataLoader(Curriculum(), batch_size=4), sampled()],
}


def train(folder, make, stop: int | None = None, every: int | str | None = None, track: bool = False) -> list[float]:
    torch.manual_seed(0)
    random.seed(0)
    model, seen = nn.Linear(1, 1), []
    ckpt = Checkpointer(folder, every=every, quiet=True).track(model=model, seen=seen)
    loaders = make()
    if track:
        ckpt.track(sampler=loaders[0].sampler)
    for _ in ckpt.epochs(3):
        for loader in loaders:
            for batch in ckpt.batches(loader):
                if stop is not None and len(seen) == stop:
                    raise ZeroDivisionError
                batch = batch[0] if isinstance(batch, list) else batch
                seen.append(float(batch.sum() + torch.rand(())))
    ckpt.close()
    return seen


@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_with_a_state_goes_on_exactly_in_and_between_epochs(tmp_path, kind):
    whole = train(tmp_path / "whole", LOADERS[kind])
    for every, stop in ((4, 9), (5, 11), ("epoch", 16)):  # saves in mid-epoch, behind the last batch, and between epochs
        folder = tmp_path / f"every {every}"
        stop = stop if len(whole) > 15 else stop - 4
        with pytest.raises(ZeroDivisionError):
            train(folder, LOADERS[kind], stop, every)
        assert train(folder, LOADERS[kind]) == whole


def test_a_sampler_that_is_tracked_as_well_does_not_skip_twice(tmp_path):
    whole = train(tmp_path / "whole", LOADERS["a resumable sampler"], track=True)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", LOADERS["a resumable sampler"], 8, 2, track=True)
    assert train(tmp_path / "cut", LOADERS["a resumable sampler"], track=True) == whole


def test_an_epoch_that_was_gone_through_is_not_gone_through_again(tmp_path):
    """A save behind the loader, in an epoch that is not over."""

    def go(stop: int | None = None) -> list[float]:
        torch.manual_seed(0)
        random.seed(0)
        seen: list[float] = []
        ckpt = Checkpointer(tmp_path / f"{stop is None or 'cut'}", every=None, quiet=True).track(model=nn.Linear(1, 1), seen=seen)
        loader = DataLoader(Stream(), batch_size=4)
        for _ in ckpt.epochs(3):
            for batch in ckpt.batches(loader):
                seen.append(float(batch.sum()))
            ckpt.save()
            if len(seen) == stop:
                raise ZeroDivisionError
        return seen

    whole = go()
    with pytest.raises(ZeroDivisionError):
        go(10)
    (tmp_path / "True").rename(tmp_path / "old")
    (tmp_path / "cut").rename(tmp_path / "True")
    assert go() == whole


class Counting(Dataset):
    def __init__(self):
        self.given, self.generator = 0, None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        self.given += 1
        self.generator = self.generator or random.Random(3)
        return torch.tensor(float(self.given))


def once(folder, loader, **options) -> None:
    ckpt = Checkpointer(folder, **options).track(model=nn.Linear(1, 1))
    for _ in ckpt.loop(loader, epochs=1):
        pass
    ckpt.close()


def test_what_a_dataset_changes_beside_a_state_is_said(tmp_path, capsys):
    once(tmp_path / "run", DataLoader(Counting(), batch_size=4))
    said = capsys.readouterr().out
    assert "Counting.given went from 0 to 8" in said and "state_dict()" in said
    assert "made 1 random generator while it was gone through" in said


def test_a_loader_beside_the_loop_that_draws_from_its_own_generator_is_said(tmp_path, capsys):
    validation = DataLoader(TensorDataset(torch.rand(4)), shuffle=True, generator=torch.Generator())
    once(tmp_path / "a", [1, 2])
    assert "validation holds a random generator of its own" in capsys.readouterr().out
    ckpt = Checkpointer(tmp_path / "b").track(model=nn.Linear(1, 1))
    for _ in ckpt.epochs(1):
        for _ in ckpt.batches([1, 2]):
            pass
        for _ in ckpt.batches(validation):
            pass
    assert "of its own" not in capsys.readouterr().out


def test_a_generator_that_is_not_there_yet_is_said_and_does_not_stop_the_training(tmp_path, capsys):
    for stop in (True, False):
        ckpt = Checkpointer(tmp_path / "run", every=1).track(model=nn.Linear(1, 1))
        loop = ckpt.loop(DataLoader(Counting(), batch_size=4), epochs=3)
        assert len([next(loop) for _ in range(4)] if stop else list(loop)) == (4 if stop else 3)
        loop.close()
        ckpt.close()
    assert "held 1 random generator when it was saved, and holds 0 now" in capsys.readouterr().out


def test_an_enumerate_that_counts_anew_in_mid_epoch_is_said(tmp_path, capsys):
    def go(start: bool, stop: int | None) -> None:
        ckpt = Checkpointer(tmp_path / "run", every=1).track(model=nn.Linear(1, 1))
        for _ in ckpt.epochs(1):
            batches = (each for each in ckpt.batches([1, 2, 3, 4, 5, 6]))  # as a progress bar
            for i, _ in enumerate(batches, ckpt.batch if start else 0):
                if i == stop:
                    return

    go(False, 2)
    assert "enumerate()" not in capsys.readouterr().out
    go(True, 4)
    assert "enumerate()" not in capsys.readouterr().out
    go(False, 1)
    said = capsys.readouterr().out
    assert "enumerate() around this loop counts from 0, and this epoch goes on behind 4 batches" in said and "ckpt.batch" in said


def test_a_loader_in_a_loop_of_ones_own_is_said(tmp_path, capsys):
    for place, loader in (("a", DataLoader([1.0, 2.0])), ("b", [1.0, 2.0])):
        ckpt = Checkpointer(tmp_path / place).track(model=nn.Linear(1, 1))
        ckpt.resume()
        for _ in loader:
            ckpt.step()
        assert ("a DataLoader is gone through in this loop" in capsys.readouterr().out) == (place == "a")


def test_another_number_of_samples_or_of_workers_is_said(tmp_path, capsys):
    def go(stop: int | None = None, **options) -> None:
        ckpt = Checkpointer(tmp_path / "run", every=1).track(model=nn.Linear(1, 1))
        for _, _ in ckpt.loop(DataLoader(torch.arange(options.pop("count", 8)), **options), epochs=1):
            if ckpt.batch == stop:
                return

    go(1, batch_size=2)
    go(2, batch_size=2)
    assert "the loader is now" not in capsys.readouterr().out
    go(3, count=7, batch_size=2)
    said = capsys.readouterr().out
    assert "DataLoader of 4 batches (batch_size 2, 7 samples), and was" in said and "8 samples" in said


def test_a_loop_of_an_interrupted_cell_that_a_variable_holds_is_over(tmp_path, monkeypatch, capsys):
    events = types.SimpleNamespace(register=lambda *_: None, unregister=lambda *_: None)
    shell = types.SimpleNamespace(execution_count=1, events=events)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    ckpt = Checkpointer(tmp_path / "run", every=1).track(model=nn.Linear(1, 1))
    bar = ckpt.epochs(3)
    held = ckpt.batches([1, 2, 3]) if next(bar) == 0 else None
    next(held)
    next(held)
    shell.execution_count = 2
    again = [(epoch, batch) for epoch in ckpt.epochs(3) for batch in ckpt.batches([1, 2, 3])]
    assert again[:2] == [(0, 2), (0, 3)] and len(again) == 8


def test_parameter_groups_that_the_saved_run_had_added_are_added(tmp_path, capsys):
    def go(epochs: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(40)])
        optimizer = torch.optim.Adam(model[1:].parameters(), lr=0.1)
        ckpt = Checkpointer(tmp_path / f"{epochs >= 0}", every=None).track(model=model, optimizer=optimizer)
        for epoch in ckpt.epochs(abs(epochs)):
            if epoch == 1:
                optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.01})
            model(torch.rand(4, 2)).sum().backward()
            optimizer.step()
        ckpt.close()
        return model, optimizer

    whole, _ = go(-4)
    go(2)
    model, optimizer = go(4)
    assert "add_param_group" in capsys.readouterr().out and [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), whole.parameters()))


def test_a_buffer_that_grows_in_training_comes_back_in_its_size(tmp_path):
    def bank(size: int) -> nn.Module:
        module = nn.Sequential(nn.Linear(2, 2))
        module[0].register_buffer("bank", torch.ones(size, 2))
        return module

    for size in (5, 0):
        model = bank(size)
        ckpt = Checkpointer(tmp_path / "run", every=1, quiet=True).track(model=model)
        list(ckpt.epochs(1))
        ckpt.close()
    assert torch.equal(model[0].bank, torch.ones(5, 2))
