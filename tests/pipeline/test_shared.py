"""A shared file is whole or absent, on a disk, in memory and over real S3."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.files.checkpoint import TEMPORARY
from pipeline.files.shared import WAITS, BadShared, SharedFolder, Unanswered
from tests.object_store import CREDENTIALS, ENDPOINT, Line

DATA = bytes(range(256)) * 64
SHA = hashlib.sha256(DATA).hexdigest()
HIDDEN = (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_SESSION_TOKEN"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> SharedFolder:
    """A shared folder of each kind, empty."""
    addresses = {
        "folder": lambda: str(tmp_path / "shared"),
        "file": lambda: f"file://{tmp_path}/shared",
        "memory": lambda: f"memory://{secrets.token_hex(4)}",
        "s3": lambda: f"{request.getfixturevalue('bucket')}/runs",
    }
    return SharedFolder(addresses[request.param]())


def test_what_is_put_is_held_listed_got_and_removed(
    folder: SharedFolder, file: Path, tmp_path: Path
) -> None:
    assert (folder.names(), folder.names("run"), folder.holds("run/a")) == ([], [], False)
    assert folder.put("run/deep/a", file) == SHA
    folder.put("run/b", file)
    folder.put("runner/c", file)
    assert folder.names() == ["run/b", "run/deep/a", "runner/c"]
    assert folder.names("run") == ["run/b", "run/deep/a"]
    assert (folder.holds("run/b"), folder.holds("run/deep")) == (True, False)
    folder.get("run/deep/a", tmp_path / "back" / "a", SHA)
    assert (tmp_path / "back" / "a").read_bytes() == DATA
    for name in folder.names():
        folder.remove(name)
    folder.remove("run/b")
    assert (folder.names(), folder.remnants()) == ([], [])


def test_one_folder_sees_at_once_what_another_changed(folder: SharedFolder, file: Path) -> None:
    other = SharedFolder(folder.address)
    assert (other.names("run"), other.holds("run/a")) == ([], False)
    folder.put("run/a", file)
    assert (other.names("run"), other.holds("run/a")) == (["run/a"], True)
    file.write_bytes(b"anew")
    folder.put("run/a", file)
    other.check("run/a", hashlib.sha256(b"anew").hexdigest())
    folder.remove("run/a")
    assert (other.names("run"), other.holds("run/a")) == ([], False)


def test_a_file_altered_afterwards_is_refused_and_leaves_nothing(
    folder: SharedFolder, file: Path, tmp_path: Path
) -> None:
    patient = SharedFolder(folder.address, wait=lambda seconds: None)
    patient.put("run/a", file)
    files, root = fsspec.core.url_to_fs(folder.address, skip_instance_cache=True)
    files.pipe_file(f"{root}/run/a", DATA[:-1] + b"?")
    with pytest.raises(BadShared, match=f"run/a has SHA-256 .* expected {SHA}"):
        patient.get("run/a", tmp_path / "back" / "a", SHA)
    with pytest.raises(BadShared, match="run/b is missing"):
        patient.check("run/b", SHA)
    assert list((tmp_path / "back").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "run/../../a", "run//a", "run/", ".", "a\\b", "a\0", "a?b"]
)
def test_a_name_that_would_leave_the_folder_is_refused(
    folder: SharedFolder, file: Path, name: str
) -> None:
    for act in (folder.holds, folder.remove, lambda name: folder.put(name, file)):
        with pytest.raises(ValueError, match="cannot name a shared file"):
            act(name)


class Faulty:
    """A place in memory whose next calls fail as told: an exception is raised, bytes are stored
    or read in the place of the right ones."""

    errors = (OSError,)

    def __init__(self, **faults: list[OSError | bytes]) -> None:
        self.files: dict[str, bytes] = {}
        self.faults, self.calls = faults, 0

    def _next(self, method: str) -> bytes | None:
        self.calls += 1
        waiting = self.faults.get(method, [])
        fault = waiting.pop(0) if waiting else None
        if isinstance(fault, OSError):
            raise fault
        return fault

    def put(self, file: Path, name: str) -> None:
        torn = self._next("put")
        self.files[name] = file.read_bytes() if torn is None else torn

    def read(self, name: str) -> Iterator[bytes]:
        stale = self._next("read")
        yield self.files[name] if stale is None else stale

    def size(self, name: str) -> int | None:
        return len(self.files[name]) if name in self.files else None

    def remove(self, name: str) -> None:
        del self.files[name]

    def find(self, folder: str) -> list[str]:
        self._next("find")
        return list(self.files)


def faulty(place: Faulty, waited: list[float] | None = None) -> SharedFolder:
    return SharedFolder("/faulty", place, (waited if waited is not None else []).append)


BUSY = OSError(errno.EBUSY, "canary-5ecret")


@pytest.mark.parametrize(
    "faults",
    [
        {"put": [DATA[:100]]},  # partial
        {"put": [DATA[:-1] + b"?"]},  # of the same size, but other bytes
        {"read": [b"as it was before"]},  # stale
        {"read": [BUSY, TimeoutError()]},
        {"put": [BUSY, b"", ConnectionResetError()]},
    ],
)
def test_a_partial_stale_or_failed_upload_is_made_again(
    file: Path, faults: dict[str, list[OSError | bytes]]
) -> None:
    waited: list[float] = []
    tries = max(map(len, faults.values()))
    place = Faulty(**faults)
    assert faulty(place, waited).put("a", file) == SHA
    assert place.files == {"a": DATA}
    assert waited == list(WAITS[:tries])


def test_what_stays_partial_is_told_with_both_sizes(file: Path) -> None:
    waited: list[float] = []
    with pytest.raises(BadShared, match="/faulty: a holds 100 bytes of the 16384 that were put"):
        faulty(Faulty(put=[DATA[:100]] * 9), waited).put("a", file)
    assert waited == list(WAITS)


def test_what_does_not_answer_is_one_error_after_the_last_attempt(file: Path) -> None:
    place = Faulty(put=[BUSY] * 9)
    with pytest.raises(Unanswered, match="/faulty: a: OSError: Device or resource busy") as told:
        faulty(place).put("a", file)
    assert place.calls == 1 + len(WAITS)
    assert "canary" not in str(told.value)


def test_a_no_is_not_asked_again(file: Path) -> None:
    place = Faulty(put=[PermissionError(errno.EACCES, "canary")], find=[OSError(errno.EROFS, "")])
    with pytest.raises(Unanswered, match="Permission denied"):
        faulty(place).put("a", file)
    with pytest.raises(Unanswered, match="Read-only"):
        faulty(place).names()
    assert place.calls == 2


def test_a_full_disk_is_told_as_a_full_disk(file: Path) -> None:
    place = Faulty(put=[OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
    with pytest.raises(OSError, match="No space left"):
        faulty(place).put("a", file)
    assert place.calls == 1


def test_a_bad_sector_is_read_again_and_then_distrusted(file: Path, tmp_path: Path) -> None:
    place = Faulty(read=[OSError(errno.EIO, "")])
    place.files["a"] = DATA
    faulty(place).get("a", tmp_path / "a", SHA)
    place.faults["read"] = [OSError(errno.EIO, "")] * 9
    with pytest.raises(Unanswered, match="Input/output error"):
        faulty(place).get("a", tmp_path / "b", SHA)
    assert not (tmp_path / "b").exists()


def test_a_file_on_its_way_has_no_name_yet(tmp_path: Path, file: Path) -> None:
    folder = SharedFolder(str(tmp_path / "shared"))
    folder.put("run/a", file)
    left = tmp_path / "shared" / "run" / f"{TEMPORARY}b-1234"
    left.write_bytes(b"half")
    assert folder.names("run") == ["run/a"]
    assert folder.remnants("run") == [f"run/{left.name}"]


def test_an_upload_cut_in_the_middle_is_made_again_over_s3(
    bucket: str, object_store: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(DATA * 64)  # a megabyte
    with Line(object_store, cuts=3, after=300_000).open() as line:
        monkeypatch.setenv(ENDPOINT, line.endpoint)
        digest = SharedFolder(bucket, wait=lambda seconds: None).put("a", file)
        assert line.cuts == 0
    monkeypatch.setenv(ENDPOINT, object_store)
    SharedFolder(bucket).check("a", digest)


def test_a_server_that_takes_connections_and_says_nothing_is_given_up(
    object_store: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.files.places.PATIENCE", 1.5)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.getsockname()[1]}")
        folder = SharedFolder("s3://bucket/runs", wait=lambda seconds: None)
        with pytest.raises(Unanswered, match="s3://bucket/runs: a: FSTimeoutError"):
            folder.put("a", file)


def test_no_credential_stands_in_what_an_object_store_s_fault_says(
    bucket: str, object_store: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    secret = object_store.replace("http://", "http://me:canary@")
    for address, endpoint in ((f"{bucket}-not", object_store), (bucket, secret)):
        monkeypatch.setenv(ENDPOINT, endpoint)
        folder = SharedFolder(address, wait=lambda seconds: None)
        with pytest.raises(Unanswered) as error:
            folder.put("a", file)
        told.append(str(error.value))
    assert told == [
        f"{bucket}-not: a: NoSuchBucket at PutObject (FileNotFoundError)",
        f"{bucket}: a: HTTPClientError",
    ]
    assert not any(secret in text for secret in (*HIDDEN, "canary") for text in told)


def test_nothing_of_an_object_store_is_imported_before_an_address_asks_for_it() -> None:
    code = (
        "import sys, tempfile\n"
        "from pipeline.files.copies import Copies\n"
        "from pipeline.files.shared import SharedFolder\n"
        "SharedFolder(tempfile.gettempdir()).holds('a')\n"
        "print([m for m in ('fsspec', 's3fs', 'aiohttp', 'botocore') if m in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_a_scheme_whose_package_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(Unanswered, match=r"s3:// needs s3fs: pip install 'coclimb\[s3\]'"):
        SharedFolder("s3://bucket/runs")
