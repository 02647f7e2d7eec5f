"""Random generators in the table of ``encode``: Python's, NumPy's and torch's, bit for bit. For the process's own see ``random_states``."""

from __future__ import annotations

import array
import base64
import random
import sys
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import UsageError
from .encode import TAG, Packer, Place, Unpacker, _readers, family
from .errors import DamagedError

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def is_generator(one: type) -> bool:
    """Whether objects of this class are random generators with a state that can be read and set."""
    if issubclass(one, random.Random):
        return one.getstate is random.Random.getstate and one.setstate is random.Random.setstate
    if issubclass(one, torch.Generator):
        return True
    numpy = sys.modules.get("numpy.random")
    return numpy is not None and issubclass(one, (numpy.Generator, numpy.RandomState))


def state(generator: Any) -> dict[str, Any]:
    """JSON: which generator it is, and its state."""
    if isinstance(generator, random.Random):
        version, words, gauss = generator.getstate()
        return {"of": "random.Random", "version": version, "words": _text(array.array("I", words).tobytes()), "gauss": _tree(gauss)}
    if isinstance(generator, torch.Generator):
        return {"of": "torch.Generator", "device": str(generator.device), "bytes": tensor_text(generator.get_state())}
    numpy = sys.modules["numpy.random"]
    if isinstance(generator, numpy.RandomState):
        return {"of": "numpy.random.RandomState", "state": _arrays(generator.get_state(legacy=False))}
    return {"of": "numpy.random.Generator", "state": _arrays(generator.bit_generator.state)}


def difference(generator: Any, record: Mapping[str, Any]) -> str | None:
    """Why this generator cannot take up this state, in words; None where it can."""
    now = state(generator)
    before = [record.get("of"), record.get("device"), _bits(record)]
    if before == [now["of"], now.get("device"), _bits(now)]:
        return None
    return f"saved {_called(record)}, now {_called(now)}"


def set_state(generator: Any, record: Mapping[str, Any]) -> None:
    """Put a state into a generator of the same kind, in place."""
    try:
        if isinstance(generator, random.Random):
            words = array.array("I", base64.b64decode(record["words"], validate=True))
            generator.setstate((record["version"], tuple(words), _value(record["gauss"])))
        elif isinstance(generator, torch.Generator):
            generator.set_state(tensor_of(record["bytes"]))
        elif isinstance(generator, sys.modules["numpy.random"].RandomState):
            generator.set_state(_unarrays(record["state"]))
        else:
            generator.bit_generator.state = _unarrays(record["state"])
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedError(f"The checkpoint holds no state of a {record.get('of')}: {error}.") from error


def made(record: Mapping[str, Any]) -> Any:
    """A new generator in this state."""
    of = record["of"]
    if of == "random.Random":
        generator: Any = random.Random(0)
    elif of == "torch.Generator":
        generator = torch.Generator(record["device"])
    elif of in ("numpy.random.Generator", "numpy.random.RandomState") and _bits(record) in _BIT_GENERATORS:
        import numpy as np

        generator = getattr(np.random, of.rpartition(".")[2])(getattr(np.random, _bits(record))(0))
    else:
        raise DamagedError(f"The checkpoint holds the state of an unknown generator ({of!r}).")
    set_state(generator, record)
    return generator


def tensor_text(tensor: torch.Tensor) -> str:
    """The bytes of a state of torch's, as text."""
    return _text(bytes(tensor.cpu().tolist()))


def tensor_of(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=torch.uint8)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bits(record: Mapping[str, Any]) -> Any:
    inner = record.get("state")
    return inner.get("bit_generator") if isinstance(inner, dict) else None


def _called(record: Mapping[str, Any]) -> str:
    detail = _bits(record) or record.get("device")
    return f"a {record.get('of')}" + (f" ({detail})" if detail else "")


def _tree(value: Any) -> Any:
    return Packer().value(value, Place("generator"))


def _value(tree: Any) -> Any:
    return Unpacker({}).value(tree)


def _arrays(value: Any) -> Any:
    """NumPy's state as JSON: its few small arrays as text, so that a generator costs no file of tensors."""
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if hasattr(value, "tobytes"):
        if str(value.dtype) not in ("uint32", "uint64"):
            raise UsageError(f"A NumPy generator with a state of {value.dtype} cannot be saved.")
        return {str(value.dtype): _text(value.tobytes())}
    return _tree(value)


def _unarrays(tree: Any) -> Any:
    import numpy as np

    if isinstance(tree, dict) and TAG not in tree:
        for dtype in ("uint32", "uint64"):
            if list(tree) == [dtype]:
                return np.frombuffer(base64.b64decode(tree[dtype], validate=True), dtype=dtype).copy()
        return {key: _unarrays(item) for key, item in tree.items()}
    return _value(tree)


_readers["generator"] = lambda unpacker, tree: made(tree)
family(is_generator, lambda packer, value, place: {TAG: "generator", **state(value)})
