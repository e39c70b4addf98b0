"""The file side of checkpoints: written whole or not at all, and never read unverified.

Order of a write: temporary folder on the same file system, each part's files, fsync of each,
manifest with sizes and SHA-256, fsync of the folders, rename, fsync of the parent, reopen and
verify. Only then may the store take a row that names it. A tensor file has no checksum of its
own, so a flipped bit would load silently; the manifest is what notices.

    NAME/
        coclimb.checkpoint   marker: this folder is ours to delete
        manifest.json        name, meta, parts, and per file its size and SHA-256
        manifest.sha256      SHA-256 of manifest.json
        PART/...             what the part saved
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from pipeline.faults import fault
from pipeline.ports import Saved

TEMPORARY = ".tmp-"
MARKER, MARK = "coclimb.checkpoint", b"coclimb checkpoint, format 1\n"
MANIFEST, SEAL = "manifest.json", "manifest.sha256"
_OWN = frozenset({MARKER, MANIFEST, SEAL})
_REMEDY = "restore an older checkpoint, or copy this folder anew from where it was whole"


class BadCheckpoint(RuntimeError):
    """A checkpoint is not what its manifest says; nothing of it was used."""

    def __init__(self, place: Path | str, found: str) -> None:
        super().__init__(f"checkpoint refused: {place}: {found}; {_REMEDY}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified folder. manifest_digest is what its row must repeat; size is in bytes."""

    folder: Path
    manifest_digest: str
    size: int


class Entry(BaseModel):
    """A file's size in bytes and its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    size: int
    sha256: str


class Manifest(BaseModel):
    """What manifest.json holds; files by their path within the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    name: str
    parts: list[str]
    files: dict[str, Entry]
    meta: JsonValue


class Files:
    """Every touch of the disk that a checkpoint makes, so that tests can record, fail and tear."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True)

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file and fsync it. After a failed fsync the file must be made anew."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_file(self, path: Path) -> None:
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def digest(self, path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def remove_file(self, path: Path) -> None:
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


FILES = Files()


def write_checkpoint(
    root: Path, name: str, parts: Mapping[str, Saved], meta: JsonValue, files: Files = FILES
) -> Checkpoint:
    """Save every part under root/name and return the folder, verified.

    A folder that has the name already keeps it, so that a writer who comes late harms nothing: one
    with the same bytes is returned, another raises FileExistsError. On any error the temporary
    folder stays for `sweep`; nothing without its manifest is ever under a final name. Raises
    ValueError for a name that looks temporary or leaves the root.
    """
    _check_name(name)
    for part in parts:
        _check_name(part)
    if not root.is_dir():
        files.make_folder(root)
        files.sync_folder(root.parent)
    temporary = root / f"{TEMPORARY}{name}-{secrets.token_hex(4)}"
    files.make_folder(temporary)
    fault("ck.tmpdir")
    files.write(temporary / MARKER, MARK)
    for part, saved in parts.items():
        files.make_folder(temporary / part)
        saved.save(temporary / part)
        fault("ck.mid_file")
    digest = _seal(temporary, _describe(temporary, name, tuple(parts), meta, files), files)
    final = root / name
    _publish(temporary, final, digest, files)
    return Checkpoint(final, digest, sum(p.stat().st_size for p in walk(final) if p.is_file()))


def adopt_checkpoint(
    final: Path, digest: str, spare: Path, fill: Callable[[Path], None], files: Files = FILES
) -> None:
    """Take in a checkpoint that was written elsewhere, and return once it verifies.

    spare  a folder of ours on the same file system, made where missing, to gather it in
    fill   writes every file of it into an empty folder, each synced
    What stood at `final` and is not this checkpoint goes; a reader that was faster wins.
    """
    temporary = spare / f"{TEMPORARY}{final.name}-{secrets.token_hex(4)}"
    files.make_folder(temporary)
    try:
        files.write(temporary / MARKER, MARK)
        fill(temporary)
        _sync_folders(temporary, files)
        if not final.parent.is_dir():
            files.make_folder(final.parent)
            files.sync_folder(final.parent.parent)
        if not is_whole(final, digest, files):
            if final.exists():
                discard(final, files)
            _publish(temporary, final, digest, files)
    finally:
        if temporary.exists():
            discard(temporary, files)


def _publish(temporary: Path, final: Path, digest: str, files: Files) -> None:
    """Give a finished folder its name, unless the same checkpoint has it, and verify it there.

    A rename takes no name that a folder has: what lies between a look and a deed cannot matter.
    """
    try:
        files.rename(temporary, final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        if not is_whole(final, digest, files):
            raise FileExistsError(f"{final} is there, and is another checkpoint") from error
        discard(temporary, files)
    fault("ck.renamed")
    files.sync_folder(final.parent)
    fault("ck.parent_synced")
    verify_checkpoint(final, digest, files)
    fault("ck.reopened")


def _describe(
    folder: Path, name: str, parts: Sequence[str], meta: JsonValue, files: Files
) -> Manifest:
    entries = {}
    for path in walk(folder):
        if path.is_dir() or path.name == MARKER:
            continue
        files.sync_file(path)
        fault("ck.file_synced")
        entries[path.relative_to(folder).as_posix()] = Entry(
            size=path.stat().st_size, sha256=files.digest(path)
        )
    return Manifest(name=name, parts=sorted(parts), files=entries, meta=meta)


def _seal(folder: Path, manifest: Manifest, files: Files) -> str:
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    files.write(folder / MANIFEST, text.encode())
    files.write(folder / SEAL, digest.encode())
    fault("ck.manifest")
    _sync_folders(folder, files)
    fault("ck.dir_synced")
    return digest


def _sync_folders(folder: Path, files: Files) -> None:
    for path in walk(folder):
        if path.is_dir():
            files.sync_folder(path)
    files.sync_folder(folder)


def verify_checkpoint(folder: Path, digest: str | None = None, files: Files = FILES) -> None:
    """Return if every byte is as it was written, else raise BadCheckpoint naming the place.

    digest  the manifest digest that a store row names; also tells two whole checkpoints apart
    """
    _read_verified(folder, digest, files)


def restore_checkpoint(
    folder: Path, parts: Mapping[str, Saved], digest: str | None = None, files: Files = FILES
) -> JsonValue:
    """Verify everything, then hand each part its sub-folder. Returns the meta that was saved."""
    manifest = _read_verified(folder, digest, files)
    if sorted(parts) != manifest.parts:
        wanted, there = ", ".join(sorted(parts)), ", ".join(manifest.parts)
        raise BadCheckpoint(folder / MANIFEST, f"holds the parts {there}, asked for {wanted}")
    for name, part in parts.items():
        part.restore(folder / name)
    return manifest.meta


def _read_verified(folder: Path, digest: str | None, files: Files) -> Manifest:
    try:
        return _compare(folder, digest, files)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ESTALE):
            raise
        found = f"cannot be read: {error.strerror}"
        raise BadCheckpoint(error.filename or folder, found) from error


def _compare(folder: Path, digest: str | None, files: Files) -> Manifest:
    if folder.name.startswith(TEMPORARY):
        raise BadCheckpoint(folder, "a temporary folder is never a checkpoint")
    if folder.is_symlink() or not folder.is_dir():
        raise BadCheckpoint(folder, "the folder is missing")
    for name in sorted(_OWN):
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise BadCheckpoint(folder / name, "the file is missing")
    if files.read(folder / MARKER) != MARK:
        raise BadCheckpoint(folder / MARKER, "is not the marker of this format")
    manifest = read_manifest(folder, digest, files)
    if manifest.name != folder.name:
        raise BadCheckpoint(folder, f"the manifest belongs to {manifest.name!r}")
    _compare_listing(folder, manifest)
    for name, entry in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != entry.size:
            raise BadCheckpoint(folder / name, f"has {size} bytes, the manifest says {entry.size}")
        if files.digest(folder / name) != entry.sha256:
            raise BadCheckpoint(folder / name, "its bytes changed: the SHA-256 differs")
    return manifest


def read_manifest(folder: Path, digest: str | None, files: Files = FILES) -> Manifest:
    """The manifest of a folder, as its seal and the row's digest name it; else BadCheckpoint."""
    text = files.read(folder / MANIFEST)
    actual = hashlib.sha256(text).hexdigest()
    if files.read(folder / SEAL) != actual.encode():
        raise BadCheckpoint(folder / MANIFEST, f"differs from its seal {SEAL}")
    if digest is not None and digest != actual:
        raise BadCheckpoint(folder / MANIFEST, f"has digest {actual}, the store says {digest}")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BadCheckpoint(folder / MANIFEST, f"is not a manifest: {error}") from error


def _compare_listing(folder: Path, manifest: Manifest) -> None:
    present = set()
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise BadCheckpoint(path, "a link may not stand in a checkpoint")
        if path.is_dir():
            if name.split("/")[0] not in manifest.parts:
                raise BadCheckpoint(path, "the folder is not in the manifest")
        elif name not in _OWN:
            present.add(name)
    for name in sorted(manifest.files.keys() - present):
        raise BadCheckpoint(folder / name, "the file is missing")
    for name in sorted(present - manifest.files.keys()):
        raise BadCheckpoint(folder / name, "the file is not in the manifest")
    for part in manifest.parts:
        if not (folder / part).is_dir():
            raise BadCheckpoint(folder / part, "the part's folder is missing")


def is_whole(folder: Path, digest: str | None, files: Files) -> bool:
    """Whether a folder verifies; digest as `verify_checkpoint` takes it."""
    try:
        verify_checkpoint(folder, digest, files)
    except BadCheckpoint:
        return False
    return True


def discard(folder: Path, files: Files) -> None:
    """Delete an own folder; its name turns temporary first, so half of it is never a candidate.

    The marker goes last, so that a sweep after a kill still knows the rest as ours.
    """
    if not folder.name.startswith(TEMPORARY):
        gone = folder.with_name(f"{TEMPORARY}{folder.name}-{secrets.token_hex(4)}")
        files.rename(folder, gone)
        folder = gone
    for path in reversed(walk(folder)):
        if path == folder / MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            files.remove_folder(path)
        else:
            files.remove_file(path)
        fault("gc.mid_unlink")
    if (folder / MARKER).exists():
        files.remove_file(folder / MARKER)
    files.remove_folder(folder)


def walk(folder: Path) -> list[Path]:
    """Everything below the folder, sorted, parents before children; links are not followed."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if path.is_dir() and not path.is_symlink():
            found.extend(walk(path))
    return found


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or name in _OWN or Path(name).name != name:
        raise ValueError(f"{name!r} cannot name a checkpoint or a part; use a plain folder name")
