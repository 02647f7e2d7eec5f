"""The mirror: what a Folder holds gets to a store beyond this machine, whatever the store does, and the training never waits for it."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from drive_server import UNIT, DriveServer, client, wait_until
from states import same, state

from gradnb.checkpoint import Checkpointer, DamagedError, DriveAPI, DriveMount, QuotaError, RemoteError, mirror, slots
from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.manifest import parse, render
from gradnb.checkpoint.mirror import Mirror
from gradnb.checkpoint.model import Entry, Manifest


class Store:
    """A store in a folder, with a note of what was done, a gate, and errors. After each change ``watch`` is called."""

    def __init__(self, path: Path):
        self.name, self.path = f"store:{path.name}", path
        path.mkdir(exist_ok=True)
        self.log: list[str] = []
        self.times: list[float] = []
        self.error: Exception | None = None
        self.fails_at: int | None = None
        """This change, counted from now, fails half-way."""
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.watch: Callable[[], None] = lambda: None

    def _begin(self, what: str) -> None:
        self.log.append(what)
        self.times.append(time.monotonic())
        if not self.gate.is_set() and not what.startswith(("list", "read")):
            self.waiting.set()
            self.gate.wait()
        if self.error is not None:
            raise self.error

    def _change(self, name: str, data: bytes) -> None:
        if self.fails_at is not None:
            self.fails_at -= 1
            if self.fails_at < 0:
                self.fails_at = None
                (self.path / name).write_bytes(data[: len(data) // 2])
                self.watch()
                raise RemoteError("broken")
        (self.path / name).write_bytes(data)
        self.watch()

    def list(self) -> dict[str, Entry]:
        self._begin("list")
        return {one.name: Entry(one.stat().st_size) for one in self.path.iterdir()}

    def put(self, name: str, source: Path, sha256: str) -> None:
        self._begin(f"put {name}")
        self._change(name, source.read_bytes())

    def get(self, name: str, target: Path) -> None:
        self._begin(f"get {name}")
        shutil.copyfile(self.path / name, target)

    def read(self, name: str) -> bytes:
        self._begin(f"read {name}")
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        self._begin(f"write {name} {'whole' if data.startswith(b'{') else 'free'}")
        self._change(name, data)

    def remove(self, name: str) -> None:
        self._begin(f"remove {name}")
        (self.path / name).unlink(missing_ok=True)
        self.watch()

    def free(self) -> int | None:
        return None

    def good(self) -> list[int]:
        """Serials of the checkpoints that a new machine could go on from."""
        found = []
        for path in self.path.glob("slot-*.manifest"):
            try:
                manifest = parse(path.read_bytes())
            except DamagedError:
                continue
            folder = Folder(self.path)
            if not folder.verify(manifest):
                found.append(manifest.serial)
        return sorted(found)


class Run:
    """A folder on one machine, its mirror, and what the mirror said."""

    def __init__(self, path: Path, store: Any, keep_last: int = 2, keep_best: slots.KeepBest | None = None, **pauses: float):
        self.folder = Folder(path, keep_last=keep_last, keep_best=keep_best)
        self.folder.open()
        self.said: list[str] = []
        self.mirror = Mirror(self.folder, store, say=self.said.append, **{"first": 0.002, "longest": 0.01, **pauses})

    def save(self, step: int, **metrics: Any) -> Manifest:
        manifest = self.folder.write(state(step, **metrics), pinned=self.mirror.pinned())
        self.mirror.offer(manifest)
        return manifest

    def there(self) -> list[int]:
        """Serials in the store, newest first."""
        return [one.serial for one in self.mirror.candidates()]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.error = None
    made.gate.set()


@pytest.fixture
def run(tmp_path: Path, store: Store) -> Iterator[Run]:
    made = Run(tmp_path / "here", store)
    yield made
    made.mirror.close(0.1)


def test_a_checkpoint_arrives_data_first_and_manifest_last(run: Run, store: Store) -> None:
    run.save(1)
    assert run.mirror.flush(10) == "" and run.mirror.status() == ""
    changes = [what for what in store.log if not what.startswith(("list", "read"))]
    assert changes[0] == "write slot-0.manifest free" and changes[-1] == "write slot-0.manifest whole"
    assert sorted(changes[1:-1]) == ["put slot-0.json", "put slot-0.safetensors"]
    assert store.good() == [1] and run.said == []


def test_the_newest_wins_and_what_is_being_sent_is_not_written_over(run: Run, store: Store) -> None:
    store.gate.clear()
    first = run.save(1)
    assert store.waiting.wait(10)
    begin = time.monotonic()
    later = [run.save(step) for step in range(2, 7)]
    assert time.monotonic() - begin < 5 and len(store.log) <= 4  # the saves did not wait for the store
    assert run.mirror.pinned() == {first.slot, later[-1].slot}
    assert all(one.slot != first.slot for one in later)
    assert "checkpoint 000001" in run.mirror.status() and "0 of 2 files there" in run.mirror.status()
    store.gate.set()
    assert run.mirror.flush(10) == ""
    assert store.good() == [1, 6] and run.mirror.pinned() == set()


def test_the_best_gets_there_although_it_was_overtaken(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, keep_last=1, keep_best=("accuracy", "max"))
    store.gate.clear()
    run.save(1, accuracy=0.1)
    assert store.waiting.wait(10)
    for step, accuracy in enumerate((0.5, 0.9, 0.3, 0.2), 2):
        run.save(step, accuracy=accuracy)
    store.gate.set()
    assert run.mirror.flush(10) == ""
    assert store.good() == [3, 5]
    run.save(6, accuracy=0.4)
    assert run.mirror.flush(10) == ""
    run.save(7, accuracy=0.4)
    assert run.mirror.flush(10) == ""
    assert store.good() == [3, 6, 7] and len(list(store.path.glob("*.manifest"))) == 3
    run.mirror.close()


def test_keep_1_has_a_good_checkpoint_in_the_store_at_every_moment(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, keep_last=1)
    run.save(1)
    assert run.mirror.flush(10) == ""
    seen: list[list[int]] = []
    store.watch = lambda: seen.append(store.good())
    for step in range(2, 6):
        run.save(step, base=step // 3)
        assert run.mirror.flush(10) == ""
    assert len(seen) > 16 and all(seen) and seen[-1][-1] == 5
    assert {slots.split(one.name)[0] for one in store.path.glob("slot-*")} == {0, 1}  # type: ignore[index]
    run.mirror.close()


def test_a_copy_that_breaks_at_any_point_leaves_a_good_one_and_is_made_good(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, keep_last=1)
    run.save(1)
    assert run.mirror.flush(10) == ""
    seen: list[list[int]] = []
    store.watch = lambda: seen.append(store.good())
    for step, point in enumerate(range(4), 2):
        store.fails_at = point
        run.save(step)
        assert run.mirror.flush(10) == "" and store.fails_at is None
    assert all(seen) and seen[-1][-1] == 5
    assert len(run.said) == 8  # one line when it broke, one when it was mended, four times
    run.mirror.close()


def test_files_of_the_user_in_the_store_stay_whatever_they_are_called(tmp_path: Path, store: Store) -> None:
    theirs = ["shared-notes.txt", "shared-0123.safetensors", "slot-40.png", "notes.manifest"]
    for name in theirs:
        (store.path / name).write_text("mine")
    run = Run(tmp_path / "here", store, keep_last=1)
    for step in range(1, 6):
        run.save(step, base=step)
        assert run.mirror.flush(10) == ""
    assert all((store.path / name).read_text() == "mine" for name in theirs) and store.good()[-1] == 5
    run.mirror.close()


def test_an_unchanged_base_is_sent_once_and_removed_when_nothing_names_it(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, keep_last=1)
    for step in range(1, 7):
        run.save(step, base=1)
        assert run.mirror.flush(10) == ""
    # Folder keeps two copies of what does not change, for even and odd checkpoints.
    assert sum(what.startswith("put shared-") for what in store.log) == 2
    old = {one.name for one in store.path.glob("shared-*")}
    for step in range(7, 13):
        run.save(step)
        assert run.mirror.flush(10) == ""
    assert len(old) == 2 and not list(store.path.glob("shared-*")) and store.good()[-1] == 12
    run.mirror.close()


def test_after_a_restart_a_shared_file_is_only_sent_where_the_store_cannot_vouch_for_it(tmp_path: Path) -> None:
    with DriveServer() as drive:
        for _ in range(2):
            run = Run(tmp_path / "here", DriveAPI("MyDrive/run1", service=lambda: client(drive), sleep=lambda _: None), keep_last=2)
            for step in range(1, 4):
                run.save(step, base=1)
                assert run.mirror.flush(10) == ""
            run.mirror.close()
            run.folder.close()
        assert [one.revisions for one in drive.files.values() if one.name.startswith("shared-")] == [1, 1]


def test_a_store_that_fails_is_told_once_tried_with_growing_pauses_and_told_when_it_is_back(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, first=0.02, longest=0.1)
    random.seed(3)
    before = random.getstate()
    store.error = RemoteError("store: no answer.")
    run.save(1)
    assert wait_until(lambda: len(store.times) >= 6)
    store.error = None
    assert run.mirror.flush(10) == ""
    pauses = [later - earlier for earlier, later in zip(store.times[:6], store.times[1:6])]
    assert all(pause >= least for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.05, 0.05)))
    assert run.said == [
        f"store: no answer. Training goes on; checkpoints stay in {run.folder.path}, and are copied as soon as that works.",
        f"{store.name} is up to date again",
    ]
    assert random.getstate() == before
    run.mirror.close()


def test_another_kind_of_failure_is_told_too(run: Run, store: Store) -> None:
    store.error = RemoteError("no answer.")
    run.save(1)
    assert wait_until(lambda: len(run.said) == 1)
    store.error = QuotaError("full.")
    assert wait_until(lambda: len(run.said) == 2)
    store.error = ZeroDivisionError("a bug")
    assert wait_until(lambda: len(run.said) == 3)
    assert "full." in run.said[1] and "ZeroDivisionError: a bug" in run.said[2]
    store.error = None
    assert run.mirror.flush(10) == "" and store.good() == [1]


def test_what_to_do_is_told_once_and_what_is_wrong_every_time_somebody_asks(run: Run, store: Store) -> None:
    store.error = RemoteError("store: not mounted.", todo="Mount it.")
    run.save(1)
    assert wait_until(lambda: bool(run.said))
    assert run.said[0].startswith("store: not mounted. Mount it. Training goes on;")
    assert "(store: not mounted)" in run.mirror.flush(0) and "(store: not mounted)" in run.mirror.status()
    run.mirror.close(0.1)
    assert "(store: not mounted)" in run.said[-1] and "Mount it" not in run.said[-1]
    store.error = None


def test_a_store_that_a_resume_could_not_ask_is_not_explained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drive = tmp_path / "drive"
    (drive / "MyDrive").mkdir(parents=True)

    def run() -> Checkpointer:
        ckpt = Checkpointer(DriveMount("MyDrive/run", drive), local=tmp_path / "here", every=1)
        ckpt.track(model=torch.nn.Linear(2, 2))
        for _ in ckpt.loop([1, 2], epochs=2):
            pass
        return ckpt

    run().close(5)
    (drive / "MyDrive").rename(drive / "gone")
    capsys.readouterr()
    ckpt = run()
    ckpt.save()
    assert not ckpt.flush(5)
    ckpt.close(0.1)
    said = capsys.readouterr().out
    assert said.count("restart the runtime") == 1 and said.count("Drive is not mounted") >= 3, said


def test_flush_tries_at_once_and_says_what_is_missing_when_time_is_up(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, first=600, longest=600)
    store.error = RemoteError("no answer.")
    run.save(1)
    assert wait_until(lambda: bool(run.said))
    store.error = None
    assert run.mirror.flush(10) == "" and store.good() == [1]  # it did not wait for the ten minutes
    store.gate.clear()
    run.save(2)
    begin = time.monotonic()
    left = run.mirror.flush(0.1)
    assert time.monotonic() - begin < 5
    assert left.startswith("checkpoint 000002, ") and left.endswith(", 0 of 2 files there")
    store.gate.set()
    assert run.mirror.flush(10) == ""
    store.error = RemoteError("the credentials have expired.", again=False)
    run.save(3)
    assert run.mirror.flush(None).endswith("(the credentials have expired)")  # without a time limit: trying again cannot help
    run.mirror.close(1)


def test_close_keeps_to_its_time_limit_and_says_what_is_left(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    store.gate.clear()
    run.save(1)
    begin = time.monotonic()
    run.mirror.close(0.1)
    assert time.monotonic() - begin < 5
    assert len(run.said) == 1 and "not yet in store:store: checkpoint 000001" in run.said[0] and str(run.folder.path) in run.said[0]
    store.gate.set()


def test_the_next_run_brings_what_the_last_one_could_not(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    store.error = RemoteError("no answer.")
    run.save(1)
    run.mirror.close(5)
    run.folder.close()
    store.error = None
    again = Run(tmp_path / "here", store)
    assert again.mirror.flush(10) == "" and store.good() == [1]
    again.mirror.close()


def test_a_new_machine_gets_the_checkpoints_and_goes_on(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    for step in range(1, 6):
        run.save(step, base=1)
        assert run.mirror.flush(10) == ""
    run.mirror.close()
    other = Run(tmp_path / "there", store)
    found = other.mirror.candidates()
    assert [one.serial for one in found] == [5, 4, 3] and other.mirror.damaged() == []
    manifest = other.mirror.fetch(found[0])
    assert same(other.folder.read(manifest), state(5, base=1))
    assert other.mirror.flush(10) == "" and not any(what.startswith("put") for what in store.log[-5:])
    assert other.save(6).serial == 6
    assert other.mirror.flush(10) == "" and store.good()[-1] == 6
    other.mirror.close()


def test_what_is_damaged_in_the_store_is_left_out_named_and_replaced_first(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    for step in range(1, 4):
        run.save(step)
        assert run.mirror.flush(10) == ""
    run.mirror.close()
    by_serial = {one.serial: one for one in run.mirror.candidates()}
    (store.path / f"slot-{by_serial[3].slot}.safetensors").write_bytes(b"cut")
    manifest = store.path / f"slot-{by_serial[2].slot}.manifest"
    manifest.write_bytes(bytes([manifest.read_bytes()[0] ^ 1]) + manifest.read_bytes()[1:])
    other = Run(tmp_path / "there", store, keep_last=1)
    assert other.there() == [1]
    assert sorted((one.what, one.file) for one in other.mirror.damaged()) == [
        ("000003 (step 3)", f"slot-{by_serial[3].slot}.safetensors"),
        (manifest.name, manifest.name),
    ]
    seen: list[list[int]] = []
    store.watch = lambda: seen.append(store.good())
    other.save(4)
    assert other.mirror.flush(10) == ""
    assert all(seen) and store.good()[-1] == 2 and 1 in seen[0]  # serial 2: numbered after what can be read
    other.mirror.close()


def test_a_flipped_byte_in_the_store_is_found_at_the_download(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    run.save(1)
    assert run.mirror.flush(10) == ""
    run.mirror.close()
    data = bytearray((store.path / "slot-0.safetensors").read_bytes())
    data[len(data) // 2] ^= 16
    (store.path / "slot-0.safetensors").write_bytes(data)
    other = Run(tmp_path / "there", store)
    with pytest.raises(DamagedError, match="slot-0.safetensors"):
        other.mirror.fetch(other.mirror.candidates()[0])
    assert other.folder.manifests() == [] and os.listdir(other.folder.path) == []
    other.mirror.close()


def test_a_run_that_begins_anew_is_numbered_after_what_is_there(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store)
    for step in range(1, 5):
        run.save(step)
        assert run.mirror.flush(10) == ""
    run.mirror.close()
    looked = Run(tmp_path / "looked", store)
    looked.mirror.candidates()
    assert looked.save(1).serial == 5
    assert looked.mirror.flush(10) == ""
    looked.mirror.close()
    blind = Run(tmp_path / "blind", store)  # the store could not be asked before the first save
    assert blind.save(1).serial == 1
    assert "has checkpoints of an earlier run up to 000005" in blind.mirror.flush(10)
    assert blind.save(2).serial == 6
    assert blind.mirror.flush(10) == "" and store.good()[-1] == 6
    blind.mirror.close()


def test_two_runs_in_one_place_are_told(tmp_path: Path, store: Store, run: Run) -> None:
    run.save(1)
    assert run.mirror.flush(10) == ""
    manifest = parse((store.path / "slot-0.manifest").read_bytes())
    (store.path / "slot-1.manifest").write_bytes(render(Manifest(**{**manifest.__dict__, "slot": 1, "serial": 9})))
    run.save(2)
    assert "Another run writes checkpoints into store:store: 000009" in run.mirror.flush(10)


def test_a_damaged_local_checkpoint_never_replaces_a_good_one_in_the_store(run: Run, store: Store) -> None:
    store.put = lambda name, source, sha256: Verifying.put(store, name, source, sha256)  # type: ignore[method-assign]
    run.save(1)
    assert run.mirror.flush(10) == ""
    manifest = run.folder.write(state(2))
    path = run.folder.path / f"slot-{manifest.slot}.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    run.mirror.offer(manifest)
    assert run.mirror.flush(10) == ""
    assert store.good() == [1]
    run.save(3)
    assert run.mirror.flush(10) == "" and store.good() == [1, 3]


class Verifying(Store):
    """As every real store does, it compares what arrived with the checksum."""

    def put(self, name: str, source: Path, sha256: str) -> None:
        import hashlib

        if hashlib.sha256(source.read_bytes()).hexdigest() != sha256:
            raise RemoteError(f"{source} is not what its manifest says.")
        Store.put(self, name, source, sha256)


def test_fewer_kept_checkpoints_free_the_slots_that_are_too_many(tmp_path: Path, store: Store) -> None:
    run = Run(tmp_path / "here", store, keep_last=4)
    for step in range(1, 6):
        run.save(step)
        assert run.mirror.flush(10) == ""
    run.mirror.close()
    run.folder.close()
    fewer = Run(tmp_path / "here", store, keep_last=1)
    for step in range(6, 9):
        fewer.save(step)
        assert fewer.mirror.flush(10) == ""
    assert store.good() == [7, 8] and len(list(store.path.iterdir())) == 6
    fewer.mirror.close()


def test_of_two_mirrors_of_one_store_the_newer_takes_over(tmp_path: Path, store: Store) -> None:
    old = Run(tmp_path / "here", store)
    store.gate.clear()
    old.save(1)
    assert store.waiting.wait(10)
    new = Run(tmp_path / "here", store)  # the cell was run again
    new.save(2)
    assert not any(what.startswith(("put slot-1", "write slot-1")) for what in store.log)
    store.gate.set()
    assert new.mirror.flush(10) == "" and store.good() == [1, 2]
    old.mirror.close(0.1)
    new.mirror.close()


def test_in_a_forked_child_nothing_runs_and_nothing_hangs(run: Run, store: Store) -> None:
    store.gate.clear()
    manifest = run.save(1)
    assert store.waiting.wait(10)
    with run.mirror._changed:  # a lock that is held at the fork stays held in the child
        child = os.fork()
        if child == 0:
            run.mirror.offer(manifest)
            good = run.mirror.flush(60) == "" and run.mirror.pinned() == set() and run.mirror.status() == ""
            run.mirror.close()
            os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    store.gate.set()
    assert run.mirror.flush(10) == ""


def test_a_store_that_hangs_does_not_hang_the_one_who_asks(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()
    monkeypatch.setattr(mirror, "_LOOK", 0.05)
    monkeypatch.setattr(store, "list", hang.wait)
    with pytest.raises(RemoteError, match="store:store does not answer .no answer after"):
        run.mirror.candidates()
    hang.set()


def test_a_manifest_that_cannot_be_read_is_left_out_and_its_slot_left_alone(run: Run, store: Store) -> None:
    for step in range(1, 4):
        run.save(step, base=1)
        assert run.mirror.flush(10) == ""
    slot = run.mirror.candidates()[0].slot
    read = store.read

    def refuse(name: str) -> bytes:
        if name == f"slot-{slot}.manifest":
            raise RemoteError("an input or output error")
        return read(name)

    store.read = refuse  # type: ignore[method-assign]
    assert run.there() == [2, 1] and "an input or output error" in run.mirror.damaged()[0].why
    for step in range(4, 7):
        run.save(step)
        assert run.mirror.flush(10) == ""
    store.read = read  # type: ignore[method-assign]
    assert 3 in run.there() and 3 in store.good()  # its shared files stayed, too


# against the real stores


def test_a_mount_that_comes_and_goes_gets_everything_in_the_end(tmp_path: Path) -> None:
    drive = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        (drive / "MyDrive").mkdir()
        run = Run(tmp_path / "here", DriveMount("MyDrive/run1", drive))
        run.save(1)
        assert run.mirror.flush(10) == ""
        (drive / "MyDrive").rename(drive / "away")
        run.save(2)
        assert wait_until(lambda: bool(run.said))
        assert "Drive is not mounted" in run.mirror.flush(0.05)
        run.save(3)
        (drive / "away").rename(drive / "MyDrive")
        assert run.mirror.flush(10) == "" and run.there() == [3, 1]
        assert len(run.said) == 2 and "Drive is not mounted" in run.said[0] and "up to date again" in run.said[1]
        run.mirror.close()
    finally:
        shutil.rmtree(drive)


def test_a_full_drive_keeps_what_is_there_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    with DriveServer() as drive:
        store = DriveAPI("MyDrive/run1", service=lambda: client(drive), sleep=lambda _: None)
        run = Run(tmp_path / "here", store, keep_last=3)
        run.save(1)
        assert run.mirror.flush(10) == ""
        drive.limit = drive.used() + 5_000
        run.save(2)
        assert wait_until(lambda: bool(run.said))
        assert re.search(
            r"is full: [\d.]+ kB of [\d.]+ kB are used, the upload of slot-1.safetensors needs 12.2 kB", run.mirror.flush(0.05)
        )
        assert run.there() == [1] and len(run.said) == 1
        drive.limit = None
        assert run.mirror.flush(10) == "" and run.there() == [2, 1] and len(run.said) == 2
        run.mirror.close()


def test_twenty_saves_on_a_drive_that_fails_in_every_way(tmp_path: Path) -> None:
    draw = random.Random(5)
    faults: list[dict[str, Any]] = [
        {"status": 503},
        {"status": 429, "reason": "rateLimitExceeded", "headers": {"Retry-After": "1"}},
        {"status": 403, "reason": "rateLimitExceeded"},
        {"drop": 0},
        {"drop": UNIT},
        {"done": True},
        {"done": True, "drop": 0},
        {"status": 500, "times": 8},
    ]
    with DriveServer() as drive:
        store = DriveAPI("MyDrive/run1", service=lambda: client(drive), sleep=lambda _: None, chunk=UNIT)
        run = Run(tmp_path / "here", store, keep_best=("accuracy", "max"))
        for step in range(1, 21):
            for _ in range(3):
                kind = draw.choice(["list", "create", "begin", "chunk", "status", "simple", "media", "delete"])
                drive.fail(kind, skip=draw.randrange(3), **draw.choice(faults))
            drive.spoil = draw.randrange(2)
            if step % 6 == 0:
                drive.expire()
            run.save(step, size=40_000, base=step // 7, accuracy=step % 13)
            assert run.mirror.flush(30) == ""
        drive.faults.clear()
        found = run.mirror.candidates()
        assert [one.serial for one in found][:2] == [20, 19] and 12 in [one.serial for one in found]
        other = Run(tmp_path / "there", store)
        for one in found:
            assert same(
                other.folder.read(other.mirror.fetch(one)), state(one.step, size=40_000, base=one.step // 7, accuracy=one.step % 13)
            )
        names = [one.name for one in drive.files.values()]
        assert len(names) == len(set(names))  # no duplicate was ever made
        run.mirror.close()
        other.mirror.close()


def train(place: Any, local: Path | None = None, steps: int = 24) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Three epochs of eight batches, cut off after ``steps``: the losses of this run, and the weights."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = torch.utils.data.TensorDataset(torch.randn(64, 8), torch.randint(4, (64,)))
    losses: list[float] = []
    with Checkpointer(place, every=3, keep_last=2, local=local) as ckpt:
        ckpt.track(model=model, optimizer=optimizer)
        for _, (x, y) in ckpt.loop(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True), epochs=3):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
        assert ckpt.flush(20)
    return losses, model.state_dict()


@pytest.mark.parametrize("kind", ["api", "mount"])
def test_a_training_goes_on_bit_for_bit_on_a_new_machine(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "G/MyDrive").mkdir(parents=True)
    with DriveServer() as drive:

        def store() -> Any:
            if kind == "mount":
                return DriveMount("MyDrive/run1", tmp_path / "G")
            return DriveAPI("MyDrive/run1", service=lambda: client(drive), sleep=lambda _: None)

        whole, weights = train(tmp_path / "uncut")
        train(store(), tmp_path / "machine 1", steps=14)
        shutil.rmtree(tmp_path / "machine 1")
        drive.fail("list", status=503)
        rest, resumed = train(store(), tmp_path / "machine 2")
    assert rest == whole[12:] and all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert "resumed at step 12 (epoch 1, batch 4) from drive:MyDrive/run1" in capsys.readouterr().out


def save_and_upload(run: Run, step: int, writer: int) -> None:
    """Until it is killed: go on from the store, save, upload, and tell each step that is there."""
    torch.set_num_threads(1)  # the threads of torch did not come along with the fork
    for one in run.mirror.candidates()[:1]:
        run.mirror.fetch(one)
    while True:
        step += 1
        run.save(step, size=200_000)
        if run.mirror.flush(10) == "":
            os.write(writer, f"{step}\n".encode())


def test_a_process_killed_while_it_uploads_leaves_a_good_checkpoint_in_the_store(tmp_path: Path) -> None:
    draw = random.Random(1)
    drive = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        (drive / "MyDrive").mkdir()
        step = 0
        for round in range(8):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    save_and_upload(Run(tmp_path / f"machine {round}", DriveMount("MyDrive/run1", drive), keep_last=1), step, writer)
                finally:
                    os._exit(1)
            os.close(writer)
            with os.fdopen(reader) as lines:
                step = int(lines.readline())  # a first one is there
                time.sleep(draw.random() * 0.03)  # the moment of the kill
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                step = max([step, *(int(line) for line in lines if line.endswith("\n"))])
            new = Run(tmp_path / f"new machine {round}", DriveMount("MyDrive/run1", drive))
            manifest = new.mirror.fetch(new.mirror.candidates()[0])
            assert manifest.step >= step and same(new.folder.read(manifest), state(manifest.step, size=200_000))
            step = manifest.step
            new.mirror.close()
        assert {slots.split(one)[0] for one in os.listdir(drive / "MyDrive/run1")} <= {0, 1}  # type: ignore[index]
    finally:
        shutil.rmtree(drive)
