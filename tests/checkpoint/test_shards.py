"""Sharded tensors: each process writes its piece, and any number of processes reads them again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from rank_group import Group
from rank_training import Training

from gradnb.checkpoint.errors import DamagedError
from gradnb.checkpoint.shards import Box, Piece, Pieces

pytestmark = pytest.mark.slow


def boxes(generator: random.Random, shape: tuple[int, ...], count: int) -> list[Box]:
    """A tensor cut ``count`` times along random dimensions."""
    found: list[Box] = [((0,) * len(shape), shape)]
    for _ in range(count):
        offset, size = found.pop(generator.randrange(len(found)))
        dimension = generator.randrange(len(shape))
        if size[dimension] < 2:
            found.append((offset, size))
            continue
        first = generator.randrange(1, size[dimension])
        second = [*size]
        second[dimension] -= first
        moved = [*offset]
        moved[dimension] += first
        found += [(offset, (*size[:dimension], first, *size[dimension + 1 :])), (tuple(moved), tuple(second))]
    return found


def cut(whole: torch.Tensor, box: Box) -> torch.Tensor:
    return whole[tuple(slice(at, at + count) for at, count in zip(*box, strict=True))]


def test_any_split_is_read_from_any_other_split() -> None:
    generator = random.Random(0)
    for _ in range(50):
        shape = tuple(generator.randrange(1, 7) for _ in range(generator.randrange(1, 4)))
        whole = torch.randn(shape)
        pieces = [Piece(box, cut(whole, box).clone().__getitem__) for box in boxes(generator, shape, 5)]
        saved = Pieces("weight", shape, torch.float32, pieces)
        assert torch.equal(saved.whole(), whole)
        for box in boxes(generator, shape, 4):
            assert torch.equal(saved.part(*box), cut(whole, box))


def test_a_missing_piece_is_noticed() -> None:
    whole = torch.arange(10.0)
    pieces = [Piece(((0,), (4,)), whole[:4].__getitem__), Piece(((5,), (5,)), whole[5:].__getitem__)]
    with pytest.raises(DamagedError, match="the pieces of weight hold 9 of its 10 elements"):
        Pieces("weight", (10,), torch.float32, pieces)


def test_a_sharded_training_resumes_bit_for_bit_and_each_piece_is_written_once(pair: Group, tmp_path: Path) -> None:
    said = pair.run(f"""
folder = {str(tmp_path)!r}
expected = Training(folder + "/whole", "fsdp", rank).run()
first = Training(folder + "/cut", "fsdp", rank).run(cut=8)
second = Training(folder + "/cut", "fsdp", rank, seed=9).run()
say(second.losses == expected.losses), say(second.weights() == expected.weights()), say(len(second.losses))
""")
    assert said == [[True, True, 12]] * 2
    written = [load(path) for path in sorted((tmp_path / "cut").glob("slot-0.*safetensors"))]
    # The running mean and variance of batch norm are each process's own.
    parameters, buffers = 4 * 7 + 7 + 7 + 7 + 7 * 3, 7 + 7
    assert sum(t.numel() for each in written for t in each.values() if t.dim()) == 3 * parameters + 2 * buffers


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_two_processes_go_on_where_one_stopped_and_one_where_two_stopped(
    pair: Group, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    alone = Training(tmp_path, "alone").run(cut=5)
    alone.ckpt.load(alone.ckpt.latest())
    said = pair.run(f"""
now = Training({str(tmp_path)!r}, "fsdp", rank, seed=9)
now.ckpt.load(now.ckpt.latest())
say(now.weights())
now.run()
say(now.weights()), say(now.losses[:3])
""")
    assert said[0][0] == said[1][0] == alone.weights()
    assert said[0][2] == said[1][2] == alone.losses
    capsys.readouterr()
    back = Training(tmp_path, "alone", seed=5)
    back.ckpt.load(back.ckpt.latest())
    assert back.weights() == said[0][1]
    back.ckpt.resume()
    line = capsys.readouterr().out
    assert "saved by 2 processes, now 1: sharded tensors are split anew" in line and "what only rank 1 had is left out" in line
    back.ckpt.close()


def test_gradients_of_a_half_accumulated_batch_are_split_like_their_parameters(pair: Group, tmp_path: Path) -> None:
    said = pair.run(f"""
first, again = (Training({str(tmp_path)!r}, "fsdp", rank, seed=seed, every=None) for seed in (0, 9))
for batch in batches(rank)[:3]:
    first.step(batch)
first.model(batches(rank)[3]).pow(2).mean().backward()
first.ckpt.save()
first.ckpt.flush()
again.ckpt.load(again.ckpt.latest())
for training in (first, again):
    training.optimizer.step()
say(first.weights() == again.weights()), say(all(p.grad is not None for p in again.model.parameters()))
first.ckpt.close(), again.ckpt.close()
""")
    assert said == [[True, True]] * 2


def test_a_damaged_piece_of_another_process_makes_all_take_the_checkpoint_before(pair: Group, tmp_path: Path) -> None:
    pair.run(f"""
folder = {str(tmp_path)!r}
Training(folder, "fsdp", rank).run(cut=8)
""")
    newest = max(tmp_path.glob("slot-*.rank1.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    data = bytearray(newest.read_bytes())
    data[-3] ^= 16
    newest.write_bytes(data)
    said = pair.run("""
again = Training(folder, "fsdp", rank, seed=9)
say(again.ckpt.resume())
say(again.weights() == Training(folder + "/other", "fsdp", rank).run(cut=3).weights())
again.ckpt.close()
""")
    assert said == [[3, True]] * 2
    assert f"{newest.name} does not match its checksum" in pair.output()


def test_a_copy_of_a_tensor_on_every_process_is_written_by_the_first_alone(pair: Group, tmp_path: Path) -> None:
    said = pair.run("""
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from gradnb.checkpoint import shards
mesh = init_device_mesh("cpu", (world,))
torch.manual_seed(0)
whole = torch.randn(5, 4)
copy, columns, few = (distribute_tensor(t, mesh, [p]) for t, p in ((whole, Replicate()), (whole, Shard(1)), (whole[:1], Shard(0))))
plain, entries = shards.split({"copy": copy, "columns": columns, "few": few, "own": whole})
say({name: list(tensor.shape) for name, tensor in plain.items()}), say({name: entry["offset"] for name, entry in entries.items()})
""")
    assert said[0] == [
        {"copy": [5, 4], "columns": [5, 2], "few": [1, 4], "own": [5, 4]},
        {"copy": [0, 0], "columns": [0, 0], "few": [0, 0]},
    ]
    assert said[1][0] == {"columns": [5, 2], "own": [5, 4]} and said[1][1]["columns"] == [0, 2]


def test_a_sum_that_is_not_added_up_is_refused_by_its_name(pair: Group) -> None:
    outcomes = pair.outcomes("""
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial
from gradnb.checkpoint import shards
shards.split({"model/x": DTensor.from_local(torch.ones(2), init_device_mesh("cpu", (world,)), [Partial()])})
""")
    for outcome in outcomes:
        assert outcome["error"].startswith("UsageError: model/x is a DTensor with Partial placement, a sum that is not yet added up")
