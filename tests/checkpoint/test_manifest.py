"""The manifest: what commits a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math

import pytest

from gradnb.checkpoint.errors import DamagedError, NewerFormatError
from gradnb.checkpoint.manifest import parse, render
from gradnb.checkpoint.model import FORMAT, FileRecord, Manifest

METRICS = {"accuracy": 0.1 + 0.2, "loss": math.nan, "best": math.inf, "wörst": -math.inf}
MANIFEST = Manifest(
    slot=3,
    serial=42,
    step=300,
    epoch=2,
    batch=None,
    metrics=METRICS,
    reason="every",
    time=1.7e9,
    files=(
        FileRecord("safetensors", 100, "0a" * 32),
        FileRecord("rank1.json", 0, "1b" * 32),
        FileRecord(f"shared-{'ab' * 8}.safetensors", 7, "ab" * 32),
    ),
    versions={"torch": "2.13.0+cpu"},
    world=2,
)


def signed(content: dict) -> bytes:
    """A manifest with a checksum that fits."""
    line = json.dumps(content).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def test_a_manifest_comes_back_as_it_was_with_nan_and_infinity() -> None:
    back = parse(render(MANIFEST))
    assert math.isnan(back.metrics["loss"])
    assert {**back.metrics, "loss": 0} == {**METRICS, "loss": 0}
    assert {**vars(back), "metrics": None} == {**vars(MANIFEST), "metrics": None}
    assert back.id == "000042"


def test_it_is_one_line_of_json_and_a_checksum() -> None:
    line, checksum, rest = render(MANIFEST).split(b"\n")
    assert json.loads(line)["step"] == 300
    assert checksum == hashlib.sha256(line).hexdigest().encode()
    assert rest == b""


def test_every_flipped_bit_at_every_place_is_noticed() -> None:
    data = render(MANIFEST)
    for place in range(len(data)):
        for bit in range(8):
            flipped = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(DamagedError):
                parse(flipped)


def test_a_manifest_cut_at_any_length_or_longer_than_written_is_noticed() -> None:
    data = render(MANIFEST)
    for other in [*(data[:length] for length in range(len(data))), data + b"\n", data + data]:
        with pytest.raises(DamagedError) as caught:
            parse(other, "slot-3.manifest")
        assert caught.value.damage[0].file == "slot-3.manifest"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "a/b", "a\\b", "", "shared-../x", "C:x", "a..b", "A", "manifest"]
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    content = json.loads(render(MANIFEST).split(b"\n")[0])
    content["files"][0][0] = name
    with pytest.raises(DamagedError, match="content that does not"):
        parse(signed(content))


@pytest.mark.parametrize("content", [[], {}, 5, None, {"gradnb": "report", "format": 1}, {"gradnb": "checkpoint", "format": "1"}])
def test_other_json_with_a_checksum_that_fits_is_no_manifest(content: object) -> None:
    with pytest.raises(DamagedError, match="is no manifest of gradnb"):
        parse(signed(content))  # type: ignore[arg-type]


def test_a_manifest_that_lacks_a_field_is_no_manifest() -> None:
    content = json.loads(render(MANIFEST).split(b"\n")[0])
    for field in content.keys() - {"gradnb", "format"}:
        with pytest.raises(DamagedError, match="content that does not"):
            parse(signed({name: value for name, value in content.items() if name != field}))


def test_a_newer_format_is_refused_with_a_sentence_that_says_what_to_do() -> None:
    with pytest.raises(
        NewerFormatError, match=rf"slot-1.manifest was written by a newer gradnb \(format {FORMAT + 1}.*pip install -U gradnb"
    ):
        parse(signed({"gradnb": "checkpoint", "format": FORMAT + 1, "anything": "else"}), "slot-1.manifest")
