"""Values survive the way to JSON and back: type for type, bit for bit; and what cannot is refused with its place."""

from __future__ import annotations

import datetime
import json
import math
import pathlib
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from gradnb.checkpoint.encode import Saved, pack, unpack


def through(value: Any) -> Any:
    """Packed, written as JSON, the tensors copied as a file would, read, unpacked."""
    tree, tensors = pack(value, "value")
    text = json.dumps(tree, allow_nan=False).encode()
    return unpack(json.loads(text), {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()})


def alike(one: Any, other: Any) -> bool:
    """Equal in type and in every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, torch.Tensor):
        return same_tensor(one, other)
    if isinstance(one, np.ndarray):
        if (one.dtype, one.shape, one.flags.fnc) != (other.dtype, other.shape, other.flags.fnc):
            return False
        return alike(one.ravel().tolist(), other.ravel().tolist()) if one.dtype == object else one.tobytes() == other.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, (list, tuple, deque)):
        extra = getattr(one, "maxlen", None) == getattr(other, "maxlen", None)
        return extra and len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other))
    if isinstance(one, dict):
        extra = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return extra and alike(list(one), list(other)) and all(alike(one[k], v) for k, v in zip(one, other.values()))
    if isinstance(one, (set, frozenset)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return one == other


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape, one.layout, one.requires_grad) != (other.dtype, other.shape, other.layout, other.requires_grad):
        return False
    if one.layout is torch.strided:
        return _bits(one) == _bits(other)
    if one.layout is torch.sparse_coo:
        parts = [(each._indices(), each._values()) for each in (one, other)]
        return one.is_coalesced() == other.is_coalesced() and all(map(same_tensor, *parts))
    return torch.equal(one.to_dense(), other.to_dense())


def _bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().resolve_conj().resolve_neg().contiguous().clone().untyped_storage())


PLAIN = [
    None, True, 0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 10**5000, 0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308,
    math.inf, -math.inf, math.nan,
    struct.unpack("d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0], 1j, complex(math.nan, -0.0), "", "ü€😀\n\0",
    "half \ud800 pair", b"", b"\0\xff",
    bytearray(b"abc"), (), (1, (2.0,)), [], {}, set(), frozenset({1, "a"}), range(0, 10, 3), range(2**70),
    slice(None, 3), deque([1, 2], 3), deque(),
    OrderedDict(b=1, a=2), Counter("hello"), defaultdict(list, a=[1]), defaultdict(None, a=1),
    {1: "a", "1": "b", (2, 3): None, None: 0, 1.5: 2},
    {"~": "tensor", "name": "x"}, {"a": {"~": 1}}, {"\ud800": 1}, datetime.date(2026, 11, 21),
    datetime.datetime(2026, 11, 21, 1, 2, 3, 4, fold=1),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(-1, 5, 7), Decimal("1.10"), Decimal("NaN"),
    Fraction(2**80, 3),
    pathlib.Path("a/b"), pathlib.PureWindowsPath("C:/x"), torch.float32, torch.bfloat16, torch.device("cuda:1"),
    torch.Size([2, 3]), torch.strided,
    torch.channels_last, [1.5] * 100, [math.nan, -0.0] * 50, list(range(-50, 50)), [2**64] * 70, [1, 2.0] * 40, [True] * 70,
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_a_plain_value_comes_back_as_it_was(value: Any) -> None:
    back = through([value])[0]
    assert alike(back, value) or (isinstance(value, Decimal) and value.is_nan() and back.is_nan())


DTYPES = [
    getattr(torch, name)
    for name in "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e8m0fnu".split()
    if hasattr(torch, name)
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_a_tensor_of_any_dtype_comes_back_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    raw = torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:
        raw = torch.rand(shape) > 0.5
    elif raw.numel():
        raw = torch.randint(0, 256, (raw.numel() * raw.element_size(),), dtype=torch.uint8).view(dtype).reshape(shape)
    back = through(raw)
    assert same_tensor(raw, back) and back.data_ptr() != raw.data_ptr() or not raw.numel()


def test_views_come_back_with_their_values_and_their_order_in_memory() -> None:
    base = torch.randn(4, 3, 5, 6)
    for view in (base.to(memory_format=torch.channels_last), base.permute(3, 1, 0, 2), base[0, 0].t(), base[:, 1:, ::2], base[..., 0]):
        back = through(view)
        assert same_tensor(view, back)
        if view.untyped_storage().nbytes() == view.numel() * 4:
            assert back.stride() == view.stride()
    assert same_tensor(base.conj(), through(base.conj()))
    z = torch.randn(3, dtype=torch.complex64)
    assert same_tensor(z.conj(), through(z.conj())) and same_tensor(z.conj().imag, through(z.conj().imag))


def test_an_expanded_tensor_is_stored_once_and_comes_back_expanded() -> None:
    wide = torch.randn(3, 1).expand(3, 1000)
    tree, tensors = pack(wide, "wide")
    assert sum(tensor.numel() for tensor in tensors.values()) == 3
    back = unpack(tree, tensors)
    assert same_tensor(wide, back) and back.stride() == wide.stride()


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_come_back_in_their_layout() -> None:
    dense = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, -0.0, 0.0], [0.0, 0.0, 4.0, 5.0]])
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2))
    block = dense.to_sparse_bsr((2, 2))
    for tensor in (dense.to_sparse(), twice, dense.to_sparse_csr(), dense.to_sparse_csc(), block, dense.to_sparse_bsc((2, 2))):
        assert same_tensor(tensor, through(tensor))


def test_parameters_and_leaves_keep_their_class_and_whether_they_need_a_gradient() -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    for tensor in (torch.nn.Parameter(torch.ones(2)), frozen, torch.ones(2, requires_grad=True), torch.ones(2)):
        back = through(tensor)
        assert type(back) is type(tensor) and back.requires_grad == tensor.requires_grad and back.is_leaf
    assert not through(torch.ones(2, requires_grad=True) * 2).requires_grad  # a graph is not saved


def test_one_tensor_in_two_places_is_stored_once_and_stays_one() -> None:
    weight = torch.randn(5)
    value = {"a": weight, "b": [weight, weight[:3]], "c": weight.view(5), "d": weight.clone()}
    tree, tensors = pack(value, "value")
    assert len(tensors) == 3
    back = unpack(tree, tensors)
    assert back["a"] is back["b"][0] is back["c"] and back["d"] is not back["a"]


def test_names_of_tensors_say_where_they_stand_and_never_collide() -> None:
    tree, tensors = pack(
        {1: torch.zeros(1), "1": torch.ones(1), "a": {"b": torch.zeros(2)}, "a/b": torch.ones(2), "\ud800": torch.ones(3)}, "x"
    )
    assert len(tensors) == 5 and {"x/1", "x/a/b"} <= set(tensors) and all(name.encode() for name in tensors)
    back = unpack(tree, tensors)
    assert back[1].item() == 0 and back["1"].item() == 1 and back["a/b"].sum() == 2


ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.float64(3), np.array(2.5),
    np.array([], dtype=np.int8),
    np.arange(10)[::-2], np.array([1, 2], dtype=">i4"), np.array(["ab", "c"]), np.array([b"x"]), np.array([1 + 2j]),
    np.array([1 + 2j], np.complex64),
    np.array([np.nan, -0.0], np.longdouble), np.array(["2026-01-01"], "M8[D]"), np.array([3], "m8[us]"), np.array([True, False]),
    np.zeros(2, [("a", "<f4"), ("b", "<i2", (2,))]), np.array([1, "a", None, [2]], dtype=object), np.float32(0.1),
    np.int64(-3), np.bool_(True),
    np.complex128(1j), np.str_("text"), np.bytes_(b"raw"), np.datetime64("2026-01-01T00:00"), np.array([7], np.uint16),
]  # fmt: skip


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{type(value).__name__}-{value.dtype}-{value.shape}")
def test_numpy_values_come_back_as_they_were(value: Any) -> None:
    assert alike(through([value])[0], value)


def test_a_read_only_array_stays_read_only() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert not through(array).flags.writeable and through(np.arange(3)).flags.writeable


def test_random_nested_values_come_back_as_they_were() -> None:
    draw = random.Random(17)

    def any_value(depth: int) -> Any:
        kinds = [
            lambda: draw.choice(PLAIN[:24]),
            lambda: struct.unpack("d", draw.randbytes(8))[0],
            lambda: draw.getrandbits(draw.choice([1, 8, 64, 200])) * draw.choice([1, -1]),
            lambda: "".join(map(chr, draw.choices(range(0x11000), k=draw.randrange(5)))),
            lambda: torch.tensor([draw.random()]).expand(draw.randrange(3), 1),
            lambda: np.array(draw.random()),
        ]
        if depth:
            kinds += [
                lambda: [any_value(depth - 1) for _ in range(draw.randrange(4))],
                lambda: tuple(any_value(depth - 1) for _ in range(draw.randrange(4))),
                lambda: {draw.choice(["a", "~", 1, None, (1, "x"), 2.5]): any_value(depth - 1) for _ in range(draw.randrange(4))},
                lambda: OrderedDict((str(i), any_value(depth - 1)) for i in range(draw.randrange(3))),
                lambda: deque((any_value(depth - 1) for _ in range(draw.randrange(3))), draw.choice([None, 5])),
                lambda: [draw.uniform(-1, 1) for _ in range(draw.choice([63, 64, 200]))],
            ]
        return draw.choice(kinds)()

    for _ in range(300):
        value = any_value(4)
        assert alike(through(value), value)


def test_random_generators_go_on_where_they_were() -> None:
    torch_generator = torch.Generator().manual_seed(5)
    python, numpy, old = random.Random(3), np.random.default_rng(4), np.random.RandomState(6)
    python.gauss(0, 1), numpy.integers(5, dtype=np.uint8), old.normal(), torch.randn(2, generator=torch_generator)
    for other in (np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM):
        rng = np.random.Generator(other(9))
        rng.random()
        assert through({"rng": rng})["rng"].random() == rng.random()
    back = through([python, numpy, old, torch_generator])
    assert back[0].gauss(0, 1) == python.gauss(0, 1) and back[0].random() == python.random()
    assert back[1].integers(5, dtype=np.uint8) == numpy.integers(5, dtype=np.uint8) and back[1].random() == numpy.random()
    assert back[2].normal() == old.normal() and back[2].normal() == old.normal()
    assert torch.equal(torch.randn(3, generator=back[3]), torch.randn(3, generator=torch_generator))


def test_an_object_with_a_state_dict_is_saved_by_it() -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), 3)
    back = through([scheduler])[0]
    assert isinstance(back, Saved) and back.record["state"]["step_size"] == 3
