"""A folder that every machine of a run sees: a local path, a mounted one, or an fsspec URL.

A file appears in it whole or not at all, and is read by its SHA-256 alone.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path

import fsspec


class BadShared(RuntimeError):
    """A shared file is missing, or its bytes are not those that its digest names."""


class SharedFolder:
    """Files by their name within one folder; names may hold slashes.

    url  a path, or an fsspec URL such as "s3://bucket/runs"
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = fsspec.core.url_to_fs(url)

    def put(self, name: str, file: Path) -> str:
        """Copy a local file in under a name, and return its SHA-256 once it is whole there."""
        digest = _digest(file)
        final = self._place(name)
        if self._files.protocol[0] in ("s3", "gcs", "abfs"):  # an object appears when it is whole
            self._files.put_file(str(file), final)
            return digest
        self._files.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
        temporary = f"{final}.tmp-{secrets.token_hex(4)}"
        self._files.put_file(str(file), temporary)
        self._files.mv(temporary, final)
        return digest

    def get(self, name: str, to: Path, sha256: str) -> None:
        """Copy a file out to a local path. Raises BadShared where it is not what `sha256` names."""
        if not self.holds(name):
            raise BadShared(f"{self.url}: {name} is missing")
        with self._files.open(self._place(name), "rb") as there, to.open("wb") as here:
            shutil.copyfileobj(there, here, 2**22)
        found = _digest(to)
        if found != sha256:
            to.unlink()
            raise BadShared(f"{self.url}: {name} has SHA-256 {found}, expected {sha256}")

    def holds(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return bool(self._files.exists(self._place(name)))

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""
        if self.holds(name):
            self._files.rm_file(self._place(name))

    def names(self, folder: str = "") -> list[str]:
        """Names of all files below a folder of it, sorted."""
        place = self._place(folder)
        if not self._files.exists(place):
            return []
        start = len(self._root.rstrip("/")) + 1
        return sorted(found[start:] for found in self._files.find(place))

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
