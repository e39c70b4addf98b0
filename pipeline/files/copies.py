"""Checkpoints in a shared folder: sealed last, so that half a copy is never a candidate.

    RUN/round-NNN/DIGEST/    DIGEST: how the manifest's SHA-256 begins
        ...                  every file of the checkpoint, each read back
        manifest.json        after all that it names
        manifest.sha256      the seal, after all else: with it the copy is published

What a digest names never changes, so a writer that woke up late, or one that went another way,
cannot touch a copy that a row names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.faults import fault
from pipeline.files.checkpoint import (
    MANIFEST,
    MARK,
    MARKER,
    SEAL,
    BadCheckpoint,
    Checkpoint,
    Manifest,
    adopt_checkpoint,
    read_manifest,
    walk,
)
from pipeline.files.shared import BadShared, SharedFolder

_COPY = re.compile(r"(?P<copy>[^/]+/round-\d{3,}/[0-9a-f]{16})/.+")


def copy_of(run: str, folder: str, digest: str) -> str:
    """Where the shared copy of a checkpoint lies; folder as its row names it."""
    return f"{run}/{folder.rsplit('/', 1)[-1]}/{digest[:16]}"


class Copies:
    """The copies in one shared folder, by their names as `copy_of` gives them."""

    def __init__(self, shared: SharedFolder) -> None:
        self.shared = shared

    def keep(self, copy: str, kept: Checkpoint) -> None:
        """Upload a verified checkpoint; once this returns every byte of it has been read back.

        An unfinished copy of that name is replaced, file by file.
        """
        files = [p.relative_to(kept.folder).as_posix() for p in walk(kept.folder) if p.is_file()]
        last = (MANIFEST, SEAL)
        for name in (*(file for file in files if file not in last), *last):
            self.shared.put(f"{copy}/{name}", kept.folder / name)
            fault("ck.upload_part")
        fault("ck.upload_done")

    def fetch(self, copy: str, digest: str, final: Path, spare: Path) -> None:
        """Bring a copy to a local folder, whole or not at all; what stood there before goes.

        digest  of the manifest, as the row names it
        spare   a local folder of ours to gather it in
        Raises BadCheckpoint for a copy that is not sealed or not what the digest names.
        """

        def fill(folder: Path) -> None:
            for name, sha256 in self._contents(copy, digest, folder):
                self.shared.get(f"{copy}/{name}", folder / name, sha256)

        with self._told(copy):
            adopt_checkpoint(final, digest, spare, fill)

    def check(self, copy: str, digest: str) -> None:
        """Read every byte of a copy. Raises BadCheckpoint as `fetch` does, and keeps nothing."""
        with self._told(copy), TemporaryDirectory() as spare:
            for name, sha256 in self._contents(copy, digest, Path(spare)):
                self.shared.check(f"{copy}/{name}", sha256)
            self.shared.check(f"{copy}/{MARKER}", hashlib.sha256(MARK).hexdigest())

    def remove(self, copy: str) -> None:
        """Remove a copy, its seal first."""
        names = [*self.shared.names(copy), *self.shared.remnants(copy)]
        for name in sorted(names, key=lambda name: name != f"{copy}/{SEAL}"):
            self.shared.remove(name)
            fault("gc.mid_unlink")

    def loose(self, run: str, known: Collection[str]) -> list[str]:
        """Copies of a run that are not known, and files on their way below those that are."""
        return [*self._unknown(run, known), *self.shared.remnants(run)]

    def sweep(self, run: str, known: Collection[str]) -> None:
        """Remove what is loose; only the run's one writer may."""
        for copy in self._unknown(run, known):
            self.remove(copy)
        for name in self.shared.remnants(run):
            self.shared.remove(name)

    def _unknown(self, run: str, known: Collection[str]) -> list[str]:
        found = {match["copy"] for name in self.shared.names(run) if (match := _COPY.match(name))}
        return sorted(found - set(known))

    def _contents(self, copy: str, digest: str, folder: Path) -> Iterator[tuple[str, str]]:
        """Gather seal and manifest in a folder, then tell each file that is left, with its SHA-256.

        A part's folder is made even where it holds nothing.
        """
        seal = hashlib.sha256(digest.encode()).hexdigest()
        self.shared.get(f"{copy}/{SEAL}", folder / SEAL, seal)
        self.shared.get(f"{copy}/{MANIFEST}", folder / MANIFEST, digest)
        manifest: Manifest = read_manifest(folder, digest)
        for part in manifest.parts:
            (folder / part).mkdir()
        for name, entry in sorted(manifest.files.items()):
            yield name, entry.sha256

    @contextmanager
    def _told(self, copy: str) -> Iterator[None]:
        try:
            yield
        except BadShared as error:
            raise BadCheckpoint(f"{self.shared.address}: {copy}", str(error)) from error
