"""Where the files of a shared folder lie: a disk, or an object store that fsspec speaks to.

Both promise the same: under its final name a file is whole or absent. A disk writes beside it,
syncs and renames; an object appears once its upload is complete. Neither trusts a listing that
was read before.
"""

from __future__ import annotations

import errno
import importlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from pipeline.files.checkpoint import TEMPORARY

CHUNK = 2**24  # bytes moved at a time; nothing holds a whole file
PATIENCE, PACE = 60.0, 2**18  # seconds for a request, and bytes that earn it a second more


class MissingPackage(RuntimeError):
    """What speaks to a kind of store is not installed."""


class Place(Protocol):
    """Files by name, parts of it divided by slashes."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the methods may raise."""
        ...

    def put(self, file: Path, name: str) -> None:
        """Copy a local file in; it appears whole or not at all, and replaces one of that name."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The file's bytes as they are now, chunk by chunk. Raises FileNotFoundError."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of the file, or None where there is no such file."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file that is there."""
        ...

    def find(self, folder: str) -> list[str]:
        """Names of every file below a folder, those on their way too; "" is all of it."""
        ...


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder of a local or mounted file system."""

    root: Path
    errors: tuple[type[Exception], ...] = (OSError,)

    def put(self, file: Path, name: str) -> None:
        final = self.root / name
        _make(final.parent)
        temporary = final.with_name(f"{TEMPORARY}{final.name}-{secrets.token_hex(4)}")
        try:
            with file.open("rb") as here, temporary.open("xb") as there:
                shutil.copyfileobj(here, there, CHUNK)
                there.flush()
                os.fsync(there.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(final.parent)

    def read(self, name: str) -> Iterator[bytes]:
        with (self.root / name).open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield chunk

    def size(self, name: str) -> int | None:
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def remove(self, name: str) -> None:
        path = self.root / name
        path.unlink(missing_ok=True)
        for folder in path.relative_to(self.root).parents:  # the root itself stands last: it stays
            if folder.name:
                with suppress(OSError):  # another file is in it
                    (self.root / folder).rmdir()

    def find(self, folder: str) -> list[str]:
        top = self.root / folder
        found = (Path(at) / file for at, _, files in os.walk(top) for file in files)
        return [path.relative_to(self.root).as_posix() for path in found]


class FileSystem(Protocol):
    """What is asked of an fsspec file system; one that is asynchronous takes `timeout`."""

    async_impl: bool

    def put_file(self, lpath: str, rpath: str, **limit: float) -> None: ...

    def cat_file(self, path: str, *, start: int, end: int, **limit: float) -> bytes: ...

    def info(self, path: str, **limit: float) -> dict[str, str | int]: ...

    def rm_file(self, path: str, **limit: float) -> None: ...

    def find(self, path: str, **limit: float) -> list[str]: ...

    def invalidate_cache(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What a scheme needs: a package, where it comes from, its own errors, its options."""

    package: str = "fsspec"
    remedy: str = "pip install fsspec"
    errors: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


# A part is 50 MB or more: four at a time are what an upload holds in memory. A server may take
# minutes to put parts together, and the timeout of each request bounds the wait already.
_S3 = Kind(
    "s3fs",
    "pip install 'coclimb[s3]'",
    ("botocore.exceptions.BotoCoreError", "botocore.exceptions.ClientError", "aiohttp.ClientError"),
    {
        "max_concurrency": 4,
        "config_kwargs": {"read_timeout": 600, "retries": {"total_max_attempts": 2}},
    },
)
_AZURE = Kind("adlfs", "pip install adlfs", ("azure.core.exceptions.AzureError",))
KINDS = {
    "s3": _S3,
    "gs": Kind("gcsfs", "pip install gcsfs", ("gcsfs.retry.HttpError", "aiohttp.ClientError")),
    "az": _AZURE,
    "abfs": _AZURE,
    "memory": Kind(),
}


class Objects:
    """A folder of an object store."""

    def __init__(self, files: FileSystem, root: str, errors: Iterable[type[Exception]]) -> None:
        self._files, self._root = files, root.rstrip("/")
        self.errors: tuple[type[Exception], ...] = (OSError, *errors)

    def put(self, file: Path, name: str) -> None:
        limit = self._limit(file.stat().st_size)
        self._files.put_file(str(file), self._at(name), **limit)

    def read(self, name: str) -> Iterator[bytes]:
        size = self._size(name)
        for start in range(0, size, CHUNK):
            end = min(start + CHUNK, size)
            yield self._files.cat_file(self._at(name), start=start, end=end, **self._limit(CHUNK))

    def size(self, name: str) -> int | None:
        try:
            return self._size(name)
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        self._files.rm_file(self._at(name), **self._limit())

    def find(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        start = len(self._root) + 1
        return [name[start:] for name in self._files.find(self._at(folder), **self._limit())]

    def _size(self, name: str) -> int:
        self._files.invalidate_cache()
        told = self._files.info(self._at(name), **self._limit())
        if told["type"] != "file":
            raise FileNotFoundError(name)
        return int(told["size"])

    def _limit(self, size: int = 0) -> dict[str, float]:
        """How long a request may take that moves so many bytes. A server that takes a connection
        and says nothing would otherwise hold it for ever."""
        return {"timeout": PATIENCE + size / PACE} if self._files.async_impl else {}

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")


def open_place(address: str) -> Place:
    """The place of a checked address. Raises MissingPackage with the remedy."""
    scheme, _, rest = address.rpartition("://")
    if scheme in ("", "file"):
        return Disk(Path(rest))
    kind = KINDS[scheme]
    try:
        importlib.import_module(kind.package)
        from fsspec.core import url_to_fs  # noqa: PLC0415 - a tenth of a second, for URLs alone

        errors = tuple(_named(error) for error in kind.errors)
    except ImportError as error:
        raise MissingPackage(f"{scheme}:// needs {kind.package}: {kind.remedy}") from error
    fresh = {"use_listings_cache": False, "skip_instance_cache": True}
    files, root = url_to_fs(address, **fresh, **kind.options)
    return Objects(files, root, errors)


def _named(error: str) -> type[Exception]:
    module, _, name = error.rpartition(".")
    return cast("type[Exception]", getattr(importlib.import_module(module), name))


def _make(folder: Path) -> None:
    """Make a folder and those above it, each entered into its parent for good."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Sync a folder; some mounted file systems know no such thing, and keep names on their own."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
