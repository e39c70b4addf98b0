"""A folder that every machine of a run sees: a local path, a mounted one, or an fsspec URL.

A file appears in it whole or not at all, is read back when it is put, and is read by its SHA-256
alone. What goes wrong for a moment is tried again; what stays wrong is one error that names the
folder and the file, with nothing in it that a library or a server said: that may hold a secret.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TypeVar

from pipeline.files.address import check_address
from pipeline.files.checkpoint import TEMPORARY
from pipeline.files.places import MissingPackage, Place, open_place

WAITS = (0.5, 1.0, 2.0)  # seconds before each further attempt
_FULL = (errno.ENOSPC, errno.EDQUOT)  # the caller pauses for space, as on any disk
_LASTING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG)
_PART = re.compile(r"[\w@+=,.-]+", re.ASCII)
_CODE = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation")

T = TypeVar("T")


class BadShared(RuntimeError):
    """A shared file is missing, or its bytes are not those that its digest names."""


class Unanswered(RuntimeError):
    """A shared folder did not answer, or would not serve, after every attempt."""


class _Unlike(Exception):
    """What was read is not what was asked for, this time."""


class SharedFolder:
    """Files by their name within one folder; names may hold slashes.

    address  an absolute path, or an fsspec URL such as "s3://bucket/runs"
    place    what holds the files, where not what the address says
    wait     lets seconds pass between attempts
    Raises Unanswered for an address that cannot be one, or whose package is not installed.
    """

    def __init__(
        self, address: str, place: Place | None = None, wait: Callable[[float], None] = time.sleep
    ) -> None:
        try:
            self.address = check_address(address)
            self._place = place or open_place(address)
        except (MissingPackage, ValueError) as error:
            raise Unanswered(f"a shared folder cannot be opened: {error}") from None
        self._wait = wait

    def put(self, name: str, file: Path) -> str:
        """Copy a local file in under a name, and return its SHA-256 once it is whole there.

        It is read back to the last byte; one that stays partial or stale raises BadShared.
        """
        check_name(name)
        digest, size = sha256_of(file), file.stat().st_size

        def work() -> None:
            self._place.put(file, name)
            if (there := self._place.size(name)) != size:
                raise _Unlike(f"holds {there} bytes of the {size} that were put")
            self._read(name, digest)

        self._again(name, work)
        return digest

    def get(self, name: str, to: Path, sha256: str) -> None:
        """Copy a file out to a local path, the folders above it made, whole or not at all.

        Raises BadShared where it is missing or not what `sha256` names.
        """
        check_name(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(f"{TEMPORARY}{to.name}-{secrets.token_hex(4)}")

        def work() -> None:
            try:
                with temporary.open("xb") as here:
                    self._read(name, sha256, here)
                    here.flush()
                    os.fsync(here.fileno())
                temporary.replace(to)
            finally:
                temporary.unlink(missing_ok=True)

        self._again(name, work)

    def check(self, name: str, sha256: str) -> None:
        """Read a file to the end. Raises BadShared as `get` does."""
        check_name(name)
        self._again(name, lambda: self._read(name, sha256))

    def holds(self, name: str) -> bool:
        """Whether a file of that name is there now."""
        check_name(name)
        return self._again(name, lambda: self._place.size(name)) is not None

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""
        check_name(name)

        def work() -> None:
            if self._place.size(name) is not None:
                self._place.remove(name)

        self._again(name, work)

    def names(self, folder: str = "") -> list[str]:
        """Names of all files below a folder of it, sorted, but for those on their way."""
        return [name for name in self._found(folder) if not _is_temporary(name)]

    def remnants(self, folder: str = "") -> list[str]:
        """Names below a folder of files on their way, or left there by a writer that was killed."""
        return [name for name in self._found(folder) if _is_temporary(name)]

    def _found(self, folder: str) -> list[str]:
        if folder:
            check_name(folder)
        found = self._again(folder or "its list", lambda: self._place.find(folder))
        return sorted(name for name in found if not folder or name.startswith(f"{folder}/"))

    def _read(self, name: str, sha256: str, to: IO[bytes] | None = None) -> None:
        try:
            found = _copy(self._place.read(name), to)
        except FileNotFoundError:
            raise _Unlike("is missing") from None
        if found != sha256:
            raise _Unlike(f"has SHA-256 {found}, expected {sha256}")

    def _again(self, name: str, work: Callable[[], T]) -> T:
        """Work that may fail for a moment. Raises BadShared, Unanswered, or OSError where a disk
        is full."""
        for seconds in (*WAITS, None):
            try:
                return work()
            except _Unlike as error:
                if seconds is None:
                    raise BadShared(f"{self.address}: {name} {error}") from None
            except self._place.errors as error:
                if isinstance(error, OSError) and error.errno in _FULL:
                    raise
                if seconds is None or _lasts(error):
                    raise Unanswered(f"{self.address}: {name}: {_told(error)}") from None
            if seconds is not None:
                self._wait(seconds)
        raise AssertionError("the last attempt returns or raises")


def check_name(name: str) -> None:
    """Raise ValueError for a name that would leave the folder, or that no store could hold."""
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise ValueError(f"{name!r} cannot name a shared file; use plain words between slashes")


def _is_temporary(name: str) -> bool:
    return name.rsplit("/", 1)[-1].startswith(TEMPORARY)


def sha256_of(file: Path) -> str:
    """SHA-256 of a local file's bytes, in hex; read in pieces, whatever its size."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _copy(chunks: Iterable[bytes], to: IO[bytes] | None = None) -> str:
    """The SHA-256 of all chunks; `to` gets the bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        if to is not None:
            to.write(chunk)
    return digest.hexdigest()


def _lasts(error: Exception) -> bool:
    """Whether the same would come of another attempt."""
    return isinstance(error, PermissionError) or (
        isinstance(error, OSError) and error.errno in _LASTING
    )


def _told(error: Exception) -> str:
    """An error in words that cannot hold a secret: its kind, its number, a server's code."""
    code = _CODE.search(f"{error} {error.__cause__}")
    if code:
        return f"{code[1]} at {code[2]} ({type(error).__name__})"
    number = error.errno if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f': {os.strerror(number)}' if number else ''}"
