"""Several processes: norms added up from local shards, ranks that differ named. Rank 0 shows.

Nothing here is a collective. Each rank puts its sums of a step into the key-value store of the process group and goes on; rank 0 takes
the others' out a step later. So a rank that leaves, that never watches, or that takes another number of steps can make nobody wait,
and the collectives of the training keep their order. Under DistributedDataParallel the gradients of all ranks are the same after
backward; what differs is seen before they are reduced, by a hook on each parameter.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .layers import Watched
from .measure import dense, unseen
from .round import Sums

_PATIENCE = 20  # steps that rank 0 waits for a rank's numbers before it does without
_END = 0.5  # seconds to wait for the last ones when it is over
Keep = Callable[..., None]
State = dict[str, list[str]]


def exchange(ranks: "Ranks | None", step: int, sums: Sums, keep: Keep) -> None:
    """A row is complete at once in one process; of several, when the others' part is there."""
    if ranks is None:
        keep(step, sums)
    else:
        ranks.add(step, sums, keep)


class Ranks:
    """This process among the others that watch."""

    @classmethod
    def here(cls, watched: Watched) -> "Ranks | None":
        """None where torch.distributed does not run, or runs alone."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
            return None
        return cls(watched, dist.distributed_c10d._get_default_store())

    _made: Counter[str] = Counter()

    def __init__(self, watched: Watched, store: Any):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._watched = watched
        # Monitors of several ranks find each other by what they watch, and by the how-manieth of that kind they are.
        kind = hashlib.sha1("\n".join(watched.names).encode()).hexdigest()[:16]
        Ranks._made[kind] += 1
        self._store = dist.PrefixStore(f"gradnb/{kind}/{Ranks._made[kind]}", store)
        self._waiting: list[tuple[int, Sums, State]] = []
        self._named: set[tuple[int, str]] = set()
        self._silent: set[int] = set()
        self._heard: set[int] = set()
        self._left: set[int] = set()
        self._local = _Local(watched) if any(_reduced(model) for model in watched.modules.values()) else None
        self._sharded = any(_sharded(model) for model in watched.modules.values())

    def add(self, step: int, sums: Sums, keep: Keep) -> None:
        """This rank's part of a step."""
        state = self._state(sums)
        packet = {"sums": sums if self._sharded else {}, "state": state}
        if self.rank:
            self._send(step, json.dumps(packet))
            keep(step, sums)
            return
        self._waiting.append((step, sums, state))

    def collect(self, keep: Keep, wait: bool = False) -> None:
        """Rank 0: complete the rows for which the others' parts have come."""
        while self._waiting:
            step, sums, state = self._waiting[0]
            found = self._packets(step, wait)
            behind = self._waiting[-1][0] - step
            if found is None and behind < (_PATIENCE if self._heard else 1) and not wait:
                return
            self._waiting.pop(0)
            packets = found if found is not None else self._there(step)
            said = self._compare(step, state, packets)
            keep(step, self._added(sums, packets), said)

    def close(self) -> None:
        """Leave: the others are told, so that nobody looks for this rank's numbers."""
        if self._local is not None:
            self._local.remove()
        if self.rank:
            try:
                self._store.set(f"left/{self.rank}", "1")
            except Exception:  # the store ends with rank 0's process
                return

    # the store

    def _send(self, step: int, packet: str) -> None:
        try:
            self._store.set(f"{step}/{self.rank}", packet)
            self._store.delete_key(f"{step - 5 * _PATIENCE}/{self.rank}")  # where rank 0 takes nothing out, nothing piles up
        except Exception:
            return  # rank 0's process has ended, and the store with it

    def _packets(self, step: int, wait: bool) -> dict[int, dict[str, Any]] | None:
        """The others' packets of a step, None as long as one is missing that may still come."""
        until = time.monotonic() + (_END if wait and self._heard else 0.0)
        while True:
            wanted = [rank for rank in range(1, self.world) if rank not in self._left]
            try:
                if all(self._store.check([f"{step}/{rank}"]) for rank in wanted):
                    return self._there(step)
                self._left |= {rank for rank in wanted if self._store.check([f"left/{rank}"]) and not self._store.check([f"{step}/{rank}"])}
            except Exception:
                return {}
            if not self._left.issuperset(wanted) and time.monotonic() >= until:
                return None
            time.sleep(0.01)

    def _there(self, step: int) -> dict[int, dict[str, Any]]:
        found = {}
        for rank in range(1, self.world):
            key = f"{step}/{rank}"
            try:
                if self._store.check([key]):
                    found[rank] = json.loads(self._store.get(key))
                    self._store.delete_key(key)
            except Exception:
                continue
        self._heard |= set(found)
        return found

    # what they say

    def _state(self, sums: Sums) -> State:
        """The layers whose local gradient is not finite, and those without one."""
        layers = self._watched.layers
        if self._local is not None:
            bad, without = self._local.take()
        else:
            bad = {index for index, square in enumerate(sums.get("norm", ())) if square is not None and not math.isfinite(square)}
            # A rank may hold no piece of a sharded layer: that it has no gradient there says nothing.
            without = (
                set()
                if self._sharded
                else {index for index, count in enumerate(sums.get("missing", ())) if count and count >= layers[index].tensors}
            )
        return {"bad": sorted(layers[index].name for index in bad), "without": sorted(layers[index].name for index in without)}

    def _compare(self, step: int, own: State, packets: dict[int, dict[str, Any]]) -> list[str]:
        states = {0: own} | {rank: packet["state"] for rank, packet in packets.items()}
        said = []
        for kind, what in (("bad", "NaN or infinity in its own gradient of"), ("without", "no gradient of its own for")):
            by_rank = {rank: set(state[kind]) for rank, state in states.items()}
            common = set.intersection(*by_rank.values()) if len(by_rank) > 1 else set()
            for rank, names in by_rank.items():
                odd = names - common
                if odd and (rank, kind) not in self._named:
                    self._named.add((rank, kind))
                    others = "other ranks have" if kind == "without" else "other ranks do not"
                    said.append(f"rank {rank} has {what} {listed(sorted(odd))} at step {step}; {others}")
            if kind == "without" and common and self._local is not None and (-1, kind) not in self._named:
                self._named.add((-1, kind))
                said.append(f"no rank used {listed(sorted(common))} at step {step}: unused parameters")
        for rank in sorted(set(range(1, self.world)) - set(packets) - self._silent):
            self._silent.add(rank)
            what = "no longer sends its numbers" if rank in self._heard else "does not watch, or sends nothing"
            more = "; the norms are those of the other ranks' shards" if self._sharded else ""
            said.append(f"rank {rank} {what}: it is left out from step {step}{more}")
        return said

    def _added(self, sums: Sums, packets: dict[int, dict[str, Any]]) -> Sums:
        if not self._sharded:
            return sums
        for packet in packets.values():
            for name, values in packet["sums"].items():
                add = _smaller if name == "missing" else _plus
                mine = sums.get(name, [None] * len(values))
                sums[name] = [add(x, y) for x, y in zip(mine, values)]
        return sums


class _Local:
    """This rank's own gradients under DistributedDataParallel, before they are averaged with the others'."""

    def __init__(self, watched: Watched):
        self._watched = watched
        self._norms: dict[int, Tensor] = {}
        self._handles = [
            parameter.register_hook(self._seer(at)) for at, ref in enumerate(watched.parameters) if (parameter := ref()) is not None
        ]

    def _seer(self, at: int) -> Callable[[Tensor], None]:
        def seen(grad: Tensor) -> None:
            with unseen():
                plain = dense(grad)
                if plain is not None:
                    norm = torch.linalg.vector_norm(plain.float() if not plain.is_complex() else plain)
                    # Of several backward passes before a step, a NaN in any counts.
                    self._norms[at] = norm + self._norms[at] if at in self._norms else norm

        return seen

    def take(self) -> tuple[set[int], set[int]]:
        """(layers with a NaN or an infinity, layers that no gradient reached) since the last step."""
        norms, self._norms = self._norms, {}
        layer_of = self._watched.layer
        values = dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True)) if norms else {}
        bad = {layer_of[at] for at, value in values.items() if not math.isfinite(value)}
        reached = {layer_of[at] for at in values}
        return bad, set(layer_of) - reached

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _plus(x: float | None, y: float | None) -> float | None:
    return y if x is None else x if y is None else x + y


def _smaller(x: float | None, y: float | None) -> float | None:
    return y if x is None else x if y is None else min(x, y)


def _reduced(model: nn.Module) -> bool:
    return any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules())


def _sharded(model: nn.Module) -> bool:
    """Whether the parameters here are only this rank's shards."""
    if any(hasattr(parameter, "to_local") for parameter in model.parameters()):
        return True
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    fsdp = [module for module in model.modules() if isinstance(module, FullyShardedDataParallel)]
    return any(module.sharding_strategy is not ShardingStrategy.NO_SHARD for module in fsdp)


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" + {len(names) - 5} layers" if len(names) > 5 else "")
