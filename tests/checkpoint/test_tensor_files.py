"""Files of tensors: what the safetensors library reads, and what comes back bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from gradnb.checkpoint import tensors
from gradnb.errors import UsageError

EVERY_DTYPE = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
EVERY_DTYPE = [dtype for dtype in EVERY_DTYPE if "qint" not in str(dtype) and "quint" not in str(dtype)]


def random_bits(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bits at all: NaN with a payload, -0.0, subnormal numbers."""
    empty = torch.empty(shape, dtype=dtype)
    bits = torch.randint(
        0, 2 if dtype == torch.bool else 256, (empty.nbytes,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    if empty.nbytes:
        tensors.memory(empty)[:] = bytes(bits.tolist())
    return empty


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_every_dtype_comes_back_bit_by_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    try:
        saved = {f"{shape}": random_bits(dtype, shape) for shape in [(), (1,), (0,), (3, 0, 2), (7,), (2, 3, 5)]}
    except (RuntimeError, NotImplementedError):
        return  # torch makes no tensor of it
    plan = tensors.layout(saved)
    written = tensors.write(tmp_path / "x", plan)
    back, digest = tensors.read(tmp_path / "x")
    assert digest == written == tensors.digest(plan)
    for name, tensor in saved.items():
        assert (back[name].dtype, back[name].shape) == (dtype, tensor.shape)
        assert tensors.memory(back[name]) == tensors.memory(tensor)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_the_library_reads_the_same_names_shapes_and_bytes(tmp_path: Path) -> None:
    saved = {f"a.{dtype}": random_bits(dtype, (4, 3)) for dtype in EVERY_DTYPE if dtype.itemsize <= 16 and "bits" not in str(dtype)}
    saved |= {"b/ü '\" \\": torch.arange(5), "empty": torch.empty(0, 4), "scalar": torch.tensor(2.5)}
    tensors.write(tmp_path / "x", tensors.layout(saved))
    read = load_file(tmp_path / "x")
    assert set(read) == set(saved)
    for name, tensor in saved.items():
        assert tensors.memory(read[name].contiguous()) == tensors.memory(tensor)
        if name == "a.torch.complex64":
            assert (read[name].dtype, tuple(read[name].shape)) == (torch.uint8, (4, 3, 8))
        elif read[name].dtype != torch.uint8:
            assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
    with safetensors.safe_open(tmp_path / "x", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["gradnb.dtypes"])["a.torch.complex128"] == "complex128"


def test_a_file_without_tensors_is_one_too(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", tensors.layout({}))
    assert load_file(tmp_path / "x") == {}
    assert tensors.read(tmp_path / "x")[0] == {}


def test_every_tensor_begins_at_a_multiple_of_its_width(tmp_path: Path) -> None:
    plan = tensors.layout(
        {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(5, dtype=torch.float64), "c": torch.ones(7, dtype=torch.bfloat16)}
    )
    entries = json.loads(plan.header[8:])
    start = len(plan.header)
    assert start % 64 == 0
    for name, tensor in plan.tensors.items():
        assert (start + entries[name]["data_offsets"][0]) % tensor.element_size() == 0


def test_a_shorter_state_over_a_longer_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", tensors.layout({"a": torch.ones(10_000)}))
    digest = tensors.write(tmp_path / "x", tensors.layout({"a": torch.zeros(10)}))
    assert torch.equal(load_file(tmp_path / "x")["a"], torch.zeros(10))
    assert tensors.read(tmp_path / "x")[1] == digest


def test_large_files_are_hashed_beside_the_writing_with_the_same_result(tmp_path: Path) -> None:
    plan = tensors.layout({"a": torch.arange(3_000_000, dtype=torch.float32), "b": torch.arange(7)})
    assert tensors.write(tmp_path / "x", plan) == tensors.digest(plan) == tensors.read(tmp_path / "x")[1]


def test_only_the_asked_tensors_are_kept_and_each_has_memory_of_its_own(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", tensors.layout({"a": torch.ones(10), "b": torch.zeros(10), "c": torch.ones(3)}))
    back, _ = tensors.read(tmp_path / "x", {"a", "b"})
    assert set(back) == {"a", "b"}
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in back.values())
    tensors.write(tmp_path / "x", tensors.layout({"a": torch.zeros(1)}))
    assert torch.equal(back["a"], torch.ones(10)), "it must not change with the file"


@pytest.mark.parametrize("name", ["__metadata__", "lone \ud800"])
def test_a_name_that_the_format_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be saved under the name"):
        tensors.layout({name: torch.ones(1)})


@pytest.mark.parametrize("tensor", [torch.ones(4, 4).t()[:2], torch.ones(1).expand(3), torch.ones(3, dtype=torch.complex64).conj()])
def test_memory_that_is_not_plain_is_never_written_by_mistake(tensor: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not plain memory"):
        tensors.write(tmp_path / "x", tensors.layout({"a": tensor}))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":1}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,-4]}}',
        b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b'{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"gradnb.dtypes":"{\\"a\\":\\"load\\"}"},"a":{"dtype":"U8","shape":[1,4],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"gradnb.dtypes":"{\\"a\\":\\"quint2x4\\"}"},"a":{"dtype":"U8","shape":[4,1],"data_offsets":[0,4]}}',
        b"[" * 100_000,
    ],
)
def test_a_header_that_is_none_is_told_apart_without_harm(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(tensors.FormatError):
        tensors.read(tmp_path / "x")
    assert tensors.blame(tmp_path / "x", {}) in ([], ["a"])
    (tmp_path / "x").write_bytes(b"\xff" * 8 + header)
    with pytest.raises(tensors.FormatError):
        tensors.read(tmp_path / "x")
