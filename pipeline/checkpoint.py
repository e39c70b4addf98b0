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

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
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

    def __init__(self, place: Path, found: str) -> None:
        super().__init__(f"checkpoint refused: {place}: {found}; {_REMEDY}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified folder. manifest_digest is what its row must repeat; size is in bytes."""

    folder: Path
    manifest_digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Keep:
    """What pruning leaves: the newest `newest` verified checkpoints and every protected name."""

    newest: int
    protected: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.newest < 2:
            raise ValueError(f"keep at least 2 checkpoints, not {self.newest}")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    size: int
    sha256: str


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    name: str
    parts: list[str]
    files: dict[str, _Entry]
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


_FILES = Files()


def write_checkpoint(
    root: Path, name: str, parts: Mapping[str, Saved], meta: JsonValue, files: Files = _FILES
) -> Checkpoint:
    """Save every part under root/name and return the folder, verified.

    A folder of that name that no row names yet (a kill between rename and row) is replaced. On
    any error the temporary folder stays for `sweep`; nothing without its manifest is ever under
    a final name. Raises ValueError for a name that looks temporary or leaves the root.
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
    if final.exists():
        _discard(final, files)
    files.rename(temporary, final)
    fault("ck.renamed")
    files.sync_folder(root)
    fault("ck.parent_synced")
    verify_checkpoint(final, digest, files)
    fault("ck.reopened")
    return Checkpoint(final, digest, sum(p.stat().st_size for p in _walk(final) if p.is_file()))


def _describe(
    folder: Path, name: str, parts: Sequence[str], meta: JsonValue, files: Files
) -> _Manifest:
    entries = {}
    for path in _walk(folder):
        if path.is_dir() or path.name == MARKER:
            continue
        files.sync_file(path)
        fault("ck.file_synced")
        entries[path.relative_to(folder).as_posix()] = _Entry(
            size=path.stat().st_size, sha256=files.digest(path)
        )
    return _Manifest(name=name, parts=sorted(parts), files=entries, meta=meta)


def _seal(folder: Path, manifest: _Manifest, files: Files) -> str:
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    files.write(folder / MANIFEST, text.encode())
    files.write(folder / SEAL, digest.encode())
    fault("ck.manifest")
    for path in _walk(folder):
        if path.is_dir():
            files.sync_folder(path)
    files.sync_folder(folder)
    fault("ck.dir_synced")
    return digest


def verify_checkpoint(folder: Path, digest: str | None = None, files: Files = _FILES) -> None:
    """Return if every byte is as it was written, else raise BadCheckpoint naming the place.

    digest  the manifest digest that a store row names; also tells two whole checkpoints apart
    """
    _read_verified(folder, digest, files)


def restore_checkpoint(
    folder: Path, parts: Mapping[str, Saved], digest: str | None = None, files: Files = _FILES
) -> JsonValue:
    """Verify everything, then hand each part its sub-folder. Returns the meta that was saved."""
    manifest = _read_verified(folder, digest, files)
    if sorted(parts) != manifest.parts:
        wanted, there = ", ".join(sorted(parts)), ", ".join(manifest.parts)
        raise BadCheckpoint(folder / MANIFEST, f"holds the parts {there}, asked for {wanted}")
    for name, part in parts.items():
        part.restore(folder / name)
    return manifest.meta


def _read_verified(folder: Path, digest: str | None, files: Files) -> _Manifest:
    if folder.name.startswith(TEMPORARY):
        raise BadCheckpoint(folder, "a temporary folder is never a checkpoint")
    if folder.is_symlink() or not folder.is_dir():
        raise BadCheckpoint(folder, "the folder is missing")
    for name in sorted(_OWN):
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise BadCheckpoint(folder / name, "the file is missing")
    if files.read(folder / MARKER) != MARK:
        raise BadCheckpoint(folder / MARKER, "is not the marker of this format")
    manifest = _read_manifest(folder, digest, files)
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


def _read_manifest(folder: Path, digest: str | None, files: Files) -> _Manifest:
    text = files.read(folder / MANIFEST)
    actual = hashlib.sha256(text).hexdigest()
    if files.read(folder / SEAL) != actual.encode():
        raise BadCheckpoint(folder / MANIFEST, f"differs from its seal {SEAL}")
    if digest is not None and digest != actual:
        raise BadCheckpoint(folder / MANIFEST, f"has digest {actual}, the store says {digest}")
    try:
        return _Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BadCheckpoint(folder / MANIFEST, f"is not a manifest: {error}") from error


def _compare_listing(folder: Path, manifest: _Manifest) -> None:
    present = set()
    for path in _walk(folder):
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


def sweep(root: Path, known: Collection[str], files: Files = _FILES) -> list[str]:
    """Remove what a stopped writer left: own temporary folders, and own folders no row names.

    known  names of the folders that rows name
    ->     names removed; a folder without our marker stays, whatever it is called
    """
    removed = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        temporary = path.name.startswith(TEMPORARY)
        if path.is_symlink() or not path.is_dir() or (path.name in known and not temporary):
            continue
        if _is_ours(path, files):
            _discard(path, files)
            removed.append(path.name)
    return removed


def prune(
    root: Path,
    newest_first: Sequence[str],
    keep: Keep,
    forget: Callable[[str], None],
    files: Files = _FILES,
) -> list[str]:
    """Remove checkpoints that are neither among the newest verified ones nor protected.

    newest_first  names by their rows, newest first
    forget        marks the row of a name as pruned; called before any of its files goes
    ->            names removed
    """
    kept, removed = 0, []
    for name in newest_first:
        if kept < keep.newest and _is_whole(root / name, files):
            kept += 1
            continue
        if kept < keep.newest or name in keep.protected:
            continue  # a broken one stays as evidence until enough whole ones are newer
        fault("gc.selected")
        forget(name)
        fault("gc.row_marked")
        if (root / name).is_dir() and _is_ours(root / name, files):
            _discard(root / name, files)
        fault("gc.row_deleted")
        removed.append(name)
    return removed


def _is_whole(folder: Path, files: Files) -> bool:
    try:
        verify_checkpoint(folder, files=files)
    except BadCheckpoint:
        return False
    return True


def _is_ours(folder: Path, files: Files) -> bool:
    """Whether the folder carries our marker, or is the empty first moment of a temporary one."""
    marker = folder / MARKER
    if marker.is_file() and not marker.is_symlink():
        mark = files.read(marker)
        return mark == MARK or (folder.name.startswith(TEMPORARY) and MARK.startswith(mark))
    return folder.name.startswith(TEMPORARY) and not any(folder.iterdir())


def _discard(folder: Path, files: Files) -> None:
    """Delete an own folder; its name turns temporary first, so half of it is never a candidate.

    The marker goes last, so that a sweep after a kill still knows the rest as ours.
    """
    if not folder.name.startswith(TEMPORARY):
        gone = folder.with_name(f"{TEMPORARY}{folder.name}-{secrets.token_hex(4)}")
        files.rename(folder, gone)
        folder = gone
    for path in reversed(_walk(folder)):
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


def _walk(folder: Path) -> list[Path]:
    """Everything below the folder, sorted, parents before children; links are not followed."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if path.is_dir() and not path.is_symlink():
            found.extend(_walk(path))
    return found


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or name in _OWN or Path(name).name != name:
        raise ValueError(f"{name!r} cannot name a checkpoint or a part; use a plain folder name")
