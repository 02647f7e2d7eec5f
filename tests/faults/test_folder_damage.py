"""One flipped bit and cuts at random places of the newest checkpoint: always noticed, always named, always fallen back from."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import Manifest
from tests.checkpoint.states import filled, newest_good, same, state

TIMES = 100
STEPS = 6


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of some 100 kB, a part of them in shared files."""
    path = tmp_path_factory.mktemp("damage") / "run"
    folder = filled(path, 0)
    for step in range(1, STEPS + 1):
        folder.write(state(step, size=5000, base=1))
    folder.close()
    return path


def files(manifest: Manifest) -> list[str]:
    return [f"slot-{manifest.slot}.manifest", *(Folder("x").file(manifest, record).name for record in manifest.files)]


def spoil(good: Path, place: Path, seed: int, change: Callable[[bytes, random.Random], bytes]) -> tuple[str, str]:
    """Change one file of the newest checkpoint in a copy of the folder: (its name, its kind)."""
    randomly = random.Random(seed)
    shutil.copytree(good, place)
    names = files(Folder(place).manifests()[0])
    name = names[seed % len(names)]  # by its size alone the manifest would hardly ever be hit
    (place / name).write_bytes(change((place / name).read_bytes(), randomly))
    return name, name.partition(".")[2] if name.startswith("slot") else "shared"


def flipped(data: bytes, randomly: random.Random) -> bytes:
    place = randomly.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << randomly.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, randomly: random.Random) -> bytes:
    return data[: randomly.choice([0, randomly.randrange(len(data))])]


@pytest.mark.parametrize("change", [flipped, cut], ids=["one flipped bit", "cut"])
def test_damage_of_the_newest_checkpoint_is_noticed_named_and_fallen_back_from(
    change: Callable[[bytes, random.Random], bytes], good: Path, tmp_path: Path
) -> None:
    newest, before = Folder(good).manifests()[:2]
    size = sum((good / name).stat().st_size for name in files(newest))
    assert 90_000 < size < 250_000
    kinds: Counter[str] = Counter()
    expected = Folder(good).read(before)
    for seed in range(TIMES):
        place = tmp_path / str(seed)
        name, kind = spoil(good, place, seed, change)
        folder = Folder(place)
        folder.open()
        found = newest_good(folder)
        assert found is not None and found[0] == before, (seed, name)
        assert same(found[1], expected)
        assert {damage.file for damage in folder.damaged()} == {name}, seed
        assert same(folder.read(folder.write(state(100, base=1))), state(100, base=1))
        folder.close()
        kinds[kind] += 1
        shutil.rmtree(place)
    assert set(kinds) == {"manifest", "json", "safetensors", "shared"} and min(kinds.values()) >= TIMES // 5


def test_a_flipped_bit_of_any_checkpoint_is_found_by_verify(good: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(good, place)
    for number, manifest in enumerate(Folder(place).manifests()):
        for name in files(manifest)[1:]:
            data = (place / name).read_bytes()
            (place / name).write_bytes(flipped(data, random.Random(number)))
            folder = Folder(place)
            assert [damage.file for damage in folder.verify(manifest)] == [name]
            (place / name).write_bytes(data)
            assert folder.verify(manifest) == []


def test_a_missing_file_is_noticed_named_and_fallen_back_from(good: Path, tmp_path: Path) -> None:
    newest = Folder(good).manifests()[0]
    for name in files(newest):
        place = tmp_path / name
        shutil.copytree(good, place)
        (place / name).unlink()
        folder = Folder(place)
        folder.open()
        found = newest_good(folder)
        assert found is not None and found[1].step == STEPS - 1
        assert {(damage.file, damage.why.split(";")[0]) for damage in folder.damaged()} == {(name, "is missing")}
        assert folder.write(state(50)).step == 50


def test_when_everything_is_damaged_nothing_is_read_and_everything_is_named(good: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(good, place)
    for path in place.glob("slot-*.json"):
        path.write_bytes(flipped(path.read_bytes(), random.Random(0)))
    folder = Folder(place)
    assert newest_good(folder) is None
    assert len(folder.damaged()) == STEPS
