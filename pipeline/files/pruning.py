"""What becomes of checkpoints later: debris is swept, old ones are pruned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.faults import fault
from pipeline.files.checkpoint import FILES, MARK, MARKER, TEMPORARY, Files, discard, is_whole


@dataclass(frozen=True, slots=True)
class Keep:
    """What pruning leaves: the newest `newest` verified checkpoints and every protected name."""

    newest: int
    protected: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.newest < 2:
            raise ValueError(f"keep at least 2 checkpoints, not {self.newest}")


def sweep(root: Path, known: Collection[str], files: Files = FILES) -> list[str]:
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
            discard(path, files)
            removed.append(path.name)
    return removed


def prune(
    root: Path,
    newest_first: Sequence[str],
    keep: Keep,
    forget: Callable[[str], None],
    files: Files = FILES,
) -> list[str]:
    """Remove checkpoints that are neither among the newest verified ones nor protected.

    newest_first  names by their rows, newest first
    forget        marks the row of a name as pruned; called before any of its files goes
    ->            names removed
    """
    kept, removed = 0, []
    for name in newest_first:
        if kept < keep.newest and is_whole(root / name, None, files):
            kept += 1
            continue
        if kept < keep.newest or name in keep.protected:
            continue  # a broken one stays as evidence until enough whole ones are newer
        fault("gc.selected")
        forget(name)
        fault("gc.row_marked")
        if (root / name).is_dir() and _is_ours(root / name, files):
            discard(root / name, files)
        fault("gc.row_deleted")
        removed.append(name)
    return removed


def _is_ours(folder: Path, files: Files) -> bool:
    """Whether the folder carries our marker, or is the empty first moment of a temporary one."""
    marker = folder / MARKER
    if marker.is_file() and not marker.is_symlink():
        mark = files.read(marker)
        return mark == MARK or (folder.name.startswith(TEMPORARY) and MARK.startswith(mark))
    return folder.name.startswith(TEMPORARY) and not any(folder.iterdir())
