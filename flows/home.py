"""Where everything a run leaves behind lives: one folder, with the store and checkpoints in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "COCLIMB_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The home folder and the store's address.

    root   --home, else the variable COCLIMB_HOME, else .coclimb in the working folder; absolute
    store  a file in it, or the PostgreSQL URL given
    """

    root: Path
    store: str

    @property
    def prefect(self) -> Path:
        """Prefect's own folder, so that a person's profile stays untouched."""
        return self.root / "prefect"

    @property
    def logs(self) -> Path:
        """What the processes that a run starts put out."""
        return self.root / "logs"

    def checkpoints(self, run: str) -> Path:
        """The folder of a run's checkpoints."""
        return self.root / "checkpoints" / run

    def folder_of(self, run: str, name: str) -> str:
        """A checkpoint's folder as its row names it: relative to the home."""
        return (self.checkpoints(run) / name).relative_to(self.root).as_posix()


def find_home(root: Path | None, store: str | None) -> Home:
    """The home named on the command line, by the environment, or by the working folder."""
    chosen = root or Path(os.environ.get(VARIABLE) or ".coclimb")
    absolute = chosen.expanduser().absolute()
    return Home(absolute, store or str(absolute / "coclimb.db"))


def make_home(home: Home) -> None:
    """Create the folder, and keep what is in it out of version control."""
    home.root.mkdir(parents=True, exist_ok=True)
    ignore = home.root / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
