"""Where a run's checkpoints are: the home, and the shared folder that the run's settings name.

A row names a folder relative to the home, whichever machine's. Where the run keeps shared copies,
a home that lacks the folder fetches it, so any machine that sees the store goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.home import Home
from pipeline.config import RunConfig, recorded
from pipeline.files.checkpoint import MANIFEST, BadCheckpoint, Checkpoint, verify_checkpoint
from pipeline.files.copies import Copies, copy_of
from pipeline.files.pruning import sweep
from pipeline.files.shared import SharedFolder, Unanswered
from store import questions
from store.database import Store
from store.points import Point


def shared_of(config: RunConfig) -> Copies | None:
    """The shared folder of a configuration, or None. Raises Unanswered where it cannot be one."""
    return Copies(SharedFolder(config.checkpoint.to)) if config.checkpoint.to else None


class Depot:
    """Checkpoints by their rows.

    spare  the local folder in which fetched ones are gathered: its owner sweeps it
    say    is told where a checkpoint comes from, if not from the home
    """

    def __init__(
        self, store: Store, home: Home, spare: Path, say: Callable[[str], None] = lambda said: None
    ) -> None:
        self._store, self._home, self._spare, self._say = store, home, spare, say
        self._copies: dict[str, Copies | None] = {}

    def keep(self, run: str, kept: Checkpoint) -> None:
        """Copy a checkpoint to where the run shares them; only then may a row name it."""
        copies = self._of(run)
        if copies is not None:
            copies.keep(copy_of(run, kept.folder.name, kept.manifest_digest), kept)

    def fetch(self, point: Point) -> Path:
        """The checkpoint's folder in this home, verified. Raises BadCheckpoint where neither the
        home nor the shared folder has it whole."""
        folder = self._home.root / point.folder
        copies = self._of(point.run)
        try:
            verify_checkpoint(folder, point.manifest_digest)
            return folder
        except BadCheckpoint as error:
            if copies is None:
                raise
            here = error
        broken = f" in the place of one that is broken ({here})" if folder.exists() else ""
        self._say(
            f"fetches the checkpoint of round {point.round} from {copies.shared.address}{broken}"
        )
        copies.fetch(_copy(point), point.manifest_digest, folder, self._spare)
        return folder

    def check(self, point: Point) -> None:
        """Raise BadCheckpoint unless every place that should have the checkpoint has it whole.

        A home of another machine than the writer's need not have it where it is shared.
        """
        folder = self._home.root / point.folder
        copies = self._of(point.run)
        if copies is None or folder.exists():
            verify_checkpoint(folder, point.manifest_digest)
        if copies is None:
            return
        try:
            copies.check(_copy(point), point.manifest_digest)
        except Unanswered as error:
            raise BadCheckpoint(_copy(point), str(error)) from error

    def remove(self, point: Point) -> None:
        """Remove the shared copy of a checkpoint whose row says that it is pruned."""
        copies = self._of(point.run)
        if copies is not None:
            copies.remove(_copy(point))

    def sweep_home(self, run: str, known: Sequence[Point]) -> None:
        """Remove what a stopped writer left in this home; only the run's owner may."""
        own = [point for point in known if not self._replaced(point)]
        sweep(self._home.checkpoints(run), {point.folder.rsplit("/", 1)[-1] for point in own})

    def sweep(self, run: str, known: Sequence[Point]) -> None:
        """Remove shared copies that no row of the run names; only its owner may."""
        copies = self._of(run)
        if copies is not None:
            copies.sweep(run, [_copy(point) for point in known])

    def _replaced(self, point: Point) -> bool:
        """Whether this home's folder is not what the row names, and the run keeps shared copies.

        So it is where this machine was stopped before its row, and another took the round again.
        The row never meant this folder: what it means is fetched when it is asked for.
        """
        manifest = self._home.root / point.folder / MANIFEST
        if self._of(point.run) is None or not manifest.is_file():
            return False
        return hashlib.sha256(manifest.read_bytes()).hexdigest() != point.manifest_digest

    def loose(self, run: str, known: Sequence[Point]) -> list[str]:
        """Names of what `sweep` would remove."""
        copies = self._of(run)
        return copies.loose(run, [_copy(point) for point in known]) if copies else []

    def _of(self, run: str) -> Copies | None:
        """A fork has its own settings, and its parent's checkpoints lie where the parent's say."""
        if run not in self._copies:
            config = recorded(str(questions.run_facts(self._store, run)["config"]))
            self._copies[run] = shared_of(config)
        return self._copies[run]


def _copy(point: Point) -> str:
    return copy_of(point.run, point.folder, point.manifest_digest)
