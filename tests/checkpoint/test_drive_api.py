"""The Drive API store: the real client against a loopback stand-in that fails in every way Drive is known to."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from drive_server import FOLDER, UNIT, DriveServer, client, wait_until

from gradnb.checkpoint import DriveAPI, QuotaError, RemoteError, WriteError
from gradnb.checkpoint.model import Entry
from gradnb.errors import UsageError

NAME = "slot-0.safetensors"


@pytest.fixture
def drive() -> Iterator[DriveServer]:
    with DriveServer() as server:
        yield server


class Api(DriveAPI):
    """With a note of its naps instead of sleeping, and chunks of 512 KiB."""

    def __init__(self, drive: DriveServer, folder: str = "MyDrive/run1"):
        self.naps: list[float] = []
        super().__init__(folder, service=lambda: client(drive), sleep=self.naps.append, chunk=2 * UNIT)


@pytest.fixture
def api(drive: DriveServer) -> Api:
    return Api(drive)


def local(folder: Path, size: int = 5 * UNIT + 17, name: str = "local") -> tuple[Path, bytes, str]:
    data = os.urandom(size)
    path = folder / name
    path.write_bytes(data)
    return path, data, hashlib.sha256(data).hexdigest()


def test_files_go_there_and_come_back_byte_for_byte(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    assert api.list() == {} and not drive.files  # looking makes nothing
    for size in (0, 1, 2 * UNIT, 2 * UNIT + 1, 7 * UNIT + 5):
        path, data, sha256 = local(tmp_path, size)
        api.put(NAME, path, sha256)
        assert api.list() == {NAME: Entry(size, sha256)}
        api.get(NAME, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
    api.write("slot-0.manifest", b"manifest")
    assert api.read("slot-0.manifest") == b"manifest"
    api.write("slot-0.manifest", b"")
    assert api.read("slot-0.manifest") == b""


def test_a_file_is_overwritten_in_place_and_deleted_for_good(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    for _ in range(3):
        path, data, sha256 = local(tmp_path)
        api.put(NAME, path, sha256)
    assert (
        drive.only(NAME).data == data and drive.only(NAME).revisions == 3
    )  # one file; the server asserts that no revision is kept for ever
    api.remove(NAME)
    assert [one.kind for one in drive.files.values()] == [FOLDER]  # not in the trash either
    api.remove(NAME)  # no error


def test_nested_folders_are_made_once_and_found_again(drive: DriveServer, tmp_path: Path) -> None:
    Api(drive, "MyDrive/it's a run/b").write("x", b"1")
    Api(drive, "it's a run/b").write("x", b"2")
    assert [one.name for one in drive.files.values()] == ["it's a run", "b", "x"]
    assert drive.only("x").data == b"2"


def test_an_upload_goes_on_from_the_byte_that_the_server_has(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path, 20 * UNIT)
    drive.fail("chunk", skip=3, drop=UNIT + 1000)
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data
    assert drive.count("begin") == 1 and drive.count("status", 308) == 1
    assert drive.count("chunk", 308) < 20  # it did not begin anew


def test_an_upload_that_was_given_up_goes_on_at_the_next_try(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path, 20 * UNIT)
    drive.fail("chunk", skip=5, times=1, status=503)
    drive.fail("status", times=99, status=503)
    with pytest.raises(RemoteError, match="failed 6 times"):
        api.put(NAME, path, sha256)
    drive.faults.clear()
    before = drive.count("chunk", 308)
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data and drive.count("begin") == 1
    assert before == 5 and drive.count("chunk") <= 12


@pytest.mark.parametrize("status", [404, 410])
def test_a_lost_upload_session_is_begun_again(drive: DriveServer, api: Api, tmp_path: Path, status: int) -> None:
    path, data, sha256 = local(tmp_path)
    drive.fail("chunk", skip=1, status=status, reason="notFound", forget=True)
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data and drive.count("begin") == 2


def test_the_last_chunk_whose_answer_was_lost_is_not_sent_again(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path)
    drive.fail("chunk", skip=2, done=True, status=503)
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data and drive.only(NAME).revisions == 1


@pytest.mark.parametrize("lost", [{"status": 503}, {"drop": 0}])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_creation_whose_answer_was_lost_makes_no_duplicate(drive: DriveServer, api: Api, what: str, lost: dict[str, int]) -> None:
    drive.fail("create", skip=what == "file", done=True, **lost)
    api.write("slot-0.manifest", b"data")
    assert [one.name for one in drive.files.values()] == ["run1", "slot-0.manifest"]
    assert drive.count("create", 409) == 1
    assert drive.only("slot-0.manifest").data == b"data"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "reason": "rateLimitExceeded"},
        {"status": 403, "reason": "userRateLimitExceeded"},
        {"status": 403, "reason": "rateLimitExceeded"},
        {"status": 408, "reason": "timeout"},
        {"status": 500, "reason": "internalError"},
        {"status": 503, "reason": "backendError"},
    ],
    ids=lambda fault: f"{fault['status']}-{fault['reason']}",
)
@pytest.mark.parametrize("kind", ["list", "begin", "chunk", "simple", "media", "ids", "delete"])
def test_what_passes_by_itself_is_tried_again_with_growing_pauses(
    drive: DriveServer, api: Api, tmp_path: Path, fault: dict, kind: str
) -> None:
    drive.fail(kind, times=3, **fault)
    path, data, sha256 = local(tmp_path)
    api.put(NAME, path, sha256)
    api.write("small", b"small")
    assert api.read("small") == b"small"
    api.get(NAME, tmp_path / "back")
    api.remove("small")
    assert (tmp_path / "back").read_bytes() == data and api.list() == {NAME: Entry(len(data), sha256)}
    assert len(api.naps) == 3 and all(2**n / 2 <= nap <= 2**n for n, nap in enumerate(api.naps))


def test_retry_after_is_heeded_as_seconds_and_as_a_date(drive: DriveServer, api: Api) -> None:
    from email.utils import formatdate
    from time import time

    drive.fail("list", status=429, reason="rateLimitExceeded", headers={"Retry-After": "37"})
    drive.fail("list", status=503, headers={"Retry-After": formatdate(time() + 100, usegmt=True)})
    drive.fail("list", status=503, headers={"Retry-After": "9999999"})
    api.list()
    assert api.naps[0] == 37 and 95 < api.naps[1] < 101 and api.naps[2] == 300


def test_a_server_that_never_answers_well_ends_in_one_clear_error(drive: DriveServer, api: Api) -> None:
    drive.fail("list", times=99, status=503)
    with pytest.raises(RemoteError, match="drive:MyDrive/run1 cannot be reached: listing the folder failed 6 times.*503") as error:
        api.list()
    assert error.value.again and drive.count("list") == 6


def test_nobody_there_at_all_is_a_remote_error(tmp_path: Path) -> None:
    with DriveServer() as drive:
        api = Api(drive)
    with pytest.raises(RemoteError, match="cannot be reached"):
        api.list()


def test_a_download_goes_on_after_a_broken_connection(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path, 12 * UNIT)
    api.put(NAME, path, sha256)
    drive.fail("media", skip=3, drop=1000)
    drive.fail("media", skip=4, drop=0)
    api.get(NAME, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert drive.count("media") <= 9


def test_a_wrong_checksum_is_sent_again_and_then_an_error(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path)
    drive.spoil = 2
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data
    drive.spoil = 3
    path, data, sha256 = local(tmp_path)
    with pytest.raises(RemoteError, match="arrived wrong 3 times .another sha256"):
        api.put(NAME, path, sha256)


def test_md5_serves_where_sha256_is_missing_and_no_checksum_is_not_trusted(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    drive.with_sha256 = False
    drive.spoil = 1
    path, data, sha256 = local(tmp_path)
    api.put(NAME, path, sha256)
    assert drive.only(NAME).data == data and api.list() == {NAME: Entry(len(data), None)}
    drive.with_md5 = False
    with pytest.raises(RemoteError, match="gives no checksum"):
        api.put(NAME, path, sha256)


def test_a_local_file_that_changed_is_the_one_that_is_blamed(api: Api, tmp_path: Path) -> None:
    path, _, _ = local(tmp_path)
    with pytest.raises(RemoteError, match="changed or damaged before it was uploaded"):
        api.put(NAME, path, "0" * 64)
    with pytest.raises(RemoteError, match="cannot be read for the upload"):
        api.put(NAME, tmp_path / "none", "0" * 64)


def test_a_full_disk_here_is_not_taken_for_a_broken_connection(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    api.write("small", b"data")
    with pytest.raises(WriteError, match="cannot be written"):
        api.get("small", tmp_path / "no such folder" / "x")
    if os.path.exists("/dev/full"):
        path, _, sha256 = local(tmp_path)
        api.put(NAME, path, sha256)
        with pytest.raises(WriteError, match="the disk is full"):
            api.get(NAME, Path("/dev/full"))
    assert api.naps == []


def test_google_s_libraries_do_not_log_a_warning_for_each_try(drive: DriveServer, api: Api, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    drive.fail("list", times=3, status=403, reason="rateLimitExceeded")
    api.list()
    assert not caplog.records
    logging.getLogger("googleapiclient.http").warning("of somebody else")
    assert [record.message for record in caplog.records] == ["of somebody else"]


@pytest.mark.parametrize("size", [1000, 5 * UNIT])
def test_a_full_quota_names_what_is_used_and_needed_and_harms_nothing(drive: DriveServer, api: Api, tmp_path: Path, size: int) -> None:
    api.write("slot-0.manifest", b"good")
    drive.limit = 900
    path, _, sha256 = local(tmp_path, size)
    with pytest.raises(QuotaError, match=r"is full: 4 bytes of 900 bytes are used, the upload of slot-1.safetensors needs 1") as error:
        api.put("slot-1.safetensors", path, sha256)
    assert error.value.again and api.read("slot-0.manifest") == b"good"
    assert api.free() == 896 and api.naps == []
    drive.limit = None
    assert api.free() is None
    api.put("slot-1.safetensors", path, sha256)


def test_credentials_without_storage_say_so(drive: DriveServer, api: Api) -> None:
    drive.limit = 0
    with pytest.raises(QuotaError, match="no storage of their own .a service account"):
        api.write("x", b"data")


def test_an_expired_token_is_renewed_also_in_mid_upload(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    api.write("small", b"data")
    drive.expire()
    assert api.read("small") == b"data"
    path, data, sha256 = local(tmp_path, 80 * UNIT)
    renewed = drive.count("token")

    def expire() -> None:
        wait_until(lambda: drive.count("chunk", 308) >= 4)
        drive.expire()

    thread = threading.Thread(target=expire)
    thread.start()
    api.put(NAME, path, sha256)
    thread.join()
    assert drive.only(NAME).data == data and drive.count("token") == renewed + 1 and drive.count("begin") == 1


def test_credentials_that_cannot_be_renewed_end_in_a_clear_error(drive: DriveServer, api: Api) -> None:
    api.write("small", b"data")
    drive.expire()
    drive.fail("token", times=99, status=400)
    with pytest.raises(RemoteError, match="expired or were withdrawn.*invalid_grant.*Make new ones.*gcloud") as error:
        api.read("small")
    assert not error.value.again


def test_a_token_that_is_still_refused_after_one_renewal_is_an_error(drive: DriveServer, api: Api) -> None:
    drive.fail("list", times=99, status=401, reason="authError")
    with pytest.raises(RemoteError, match="expired or were withdrawn") as error:
        api.list()
    assert not error.value.again and drive.count("list") == 2


@pytest.mark.parametrize("reason", ["insufficientPermissions", "accessNotConfigured"])
def test_a_refusal_that_time_does_not_mend_is_not_tried_again(drive: DriveServer, api: Api, reason: str) -> None:
    drive.fail("list", times=99, status=403, reason=reason)
    with pytest.raises(RemoteError, match="drive.file" if reason == "insufficientPermissions" else reason) as error:
        api.list()
    assert not error.value.again and drive.count("list") == 1


def test_of_duplicate_files_the_newest_of_ours_counts_and_the_others_go(drive: DriveServer, api: Api) -> None:
    api.write("slot-0.manifest", b"one")
    folder = drive.only("run1").id
    drive.add("slot-0.manifest", folder, b"newer", ours=True)
    foreign = drive.add("slot-0.manifest", folder, b"by hand", ours=False)
    again = Api(drive)
    assert again.list()["slot-0.manifest"].size == 5 and again.read("slot-0.manifest") == b"newer"
    again.write("slot-0.manifest", b"newest")
    assert sorted(one.data for one in drive.named("slot-0.manifest")) == [b"by hand", b"newest"]
    again.remove("slot-0.manifest")
    assert drive.named("slot-0.manifest") == [foreign]  # what a user put there stays


def test_of_duplicate_folders_the_one_with_checkpoints_is_taken(drive: DriveServer) -> None:
    right = drive.add("run1", kind=FOLDER, ours=False)
    drive.add("slot-0.manifest", right.id, b"good")
    drive.add("run1", kind=FOLDER)  # newer, and empty
    api = Api(drive)
    assert api.read("slot-0.manifest") == b"good"
    other = drive.add("run1", kind=FOLDER)
    drive.add("slot-1.manifest", other.id, b"good too")
    with pytest.raises(RemoteError, match="ambiguous: 2 folders.*https://drive.google.com") as error:
        Api(drive).list()
    assert not error.value.again


def test_long_listings_come_page_by_page(drive: DriveServer, api: Api) -> None:
    for number in range(5):
        api.write(f"slot-{number}.manifest", b"x" * number)
    drive.page = 2
    assert {name: entry.size for name, entry in Api(drive).list().items()} == {f"slot-{number}.manifest": number for number in range(5)}


def test_a_file_that_is_not_listed_yet_is_not_made_twice(drive: DriveServer, api: Api) -> None:
    drive.hidden.add("slot-0.manifest")
    api.write("slot-0.manifest", b"one")
    assert api.list() == {}
    api.write("slot-0.manifest", b"two")
    assert drive.only("slot-0.manifest").data == b"two"


@pytest.mark.parametrize("gone", ["file deleted", "folder deleted", "folder in the trash"])
def test_what_the_user_deletes_in_mid_run_is_made_again(drive: DriveServer, api: Api, tmp_path: Path, gone: str) -> None:
    api.write("slot-0.manifest", b"one")
    folder, file = drive.only("run1"), drive.only("slot-0.manifest")
    if gone == "folder in the trash":
        folder.trashed = True
        assert api.list() == {}
    else:
        for one in [file] if gone == "file deleted" else [file, folder]:
            del drive.files[one.id]
    path, data, sha256 = local(tmp_path)
    api.write("slot-0.manifest", b"two")
    api.put(NAME, path, sha256)
    assert drive.only("slot-0.manifest").data == b"two" and drive.only(NAME).data == data
    assert drive.only(NAME).parents == drive.only("slot-0.manifest").parents == [drive.only("run1").id]


def test_each_thread_has_a_connection_of_its_own(drive: DriveServer, api: Api, tmp_path: Path) -> None:
    files = {f"slot-{number}.safetensors": local(tmp_path, name=str(number)) for number in range(4)}
    errors: list[BaseException] = []

    def store(name: str) -> None:
        try:
            api.put(name, files[name][0], files[name][2])
            api.get(name, tmp_path / f"back {name}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=store, args=(name,)) for name in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and drive.connections >= 4
    assert all((tmp_path / f"back {name}").read_bytes() == data == drive.only(name).data for name, (_, data, _) in files.items())
    assert len(drive.named("run1")) == 1


def test_the_users_random_stream_stays_where_it_is(drive: DriveServer, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth._exponential_backoff as backoff

    naps: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", naps.append)
    api.list()
    random.seed(7)
    before = random.getstate()
    path, _, sha256 = local(tmp_path)
    drive.fail("chunk", status=503)
    drive.fail("token", times=2, status=503, token_error="internal_failure")
    drive.expire()
    api.put(NAME, path, sha256)
    api.get(NAME, tmp_path / "back")
    assert naps and random.getstate() == before  # google-auth did draw a pause
    assert backoff.random is random


# who may write there


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "googleapiclient.discovery", None)
    with pytest.raises(UsageError, match=r"pip install gradnb\[drive\]"):
        DriveAPI("MyDrive/run1")


def test_without_credentials_it_says_how_to_get_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(UsageError, match="No Google credentials were found.*gcloud auth application-default login.*drive.file"):
        DriveAPI("MyDrive/run1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ('{"installed": {}}', "holds an OAuth client.*gcloud"),
        ('{"type": "authorized_user"}', "are not whole.*refresh_token"),
        ('{"type": "service_account"}', "are not whole"),
        ('{"type": "external_account"}', "is of type 'external_account'.*google.auth credentials object"),
        ("[1]", "is of type None"),
    ],
)
def test_a_file_that_holds_no_credentials_says_what_is_wrong(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "me.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message):
        DriveAPI("MyDrive/run1", credentials=path)


def test_credentials_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="credentials=int: a google.auth credentials object"):
        DriveAPI("MyDrive/run1", credentials=3)


def test_a_users_file_gives_credentials_for_our_scope_only(tmp_path: Path) -> None:
    from gradnb.checkpoint import drive_auth

    path = tmp_path / "me.json"
    path.write_text(json.dumps({"type": "authorized_user", "client_id": "id", "client_secret": "secret", "refresh_token": "token"}))
    found = drive_auth.find(path)
    assert found.scopes == ["https://www.googleapis.com/auth/drive.file"] and found.refresh_token == "token"
    built = drive_auth.service(found)  # asks nothing of the network
    assert built.files().list(q="").uri.startswith("https://www.googleapis.com/drive/v3/files")


def test_a_service_accounts_file_logs_in_by_itself(drive: DriveServer, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    from gradnb.checkpoint import drive_auth

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    path = tmp_path / "robot.json"
    path.write_text(
        json.dumps({"type": "service_account", "client_email": "robot@example.com", "private_key": pem, "token_uri": f"{drive.url}/token"})
    )
    credentials = drive_auth.find(str(path))
    api = DriveAPI("MyDrive/run1", service=lambda: client(drive, credentials))
    api.write("x", b"data")
    assert api.read("x") == b"data" and drive.count("token", 200) == 1
