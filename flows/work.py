"""How far a long look has come: a bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.display import clock
from flows.looks.report import console
from flows.progress import Quiet


class Work:
    """A with block that is told of phases and of what is done in them: rate and time left show."""

    def __init__(self) -> None:
        self.console = console(stderr=True)
        self.began = self.since = time.monotonic()
        self.what, self.total, self.done, self.lines = "", 0, 0, 0
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        self.row = self.bar.add_task("", total=None, rate="")

    def __enter__(self) -> Work:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *left: object) -> None:
        if self.console.is_terminal:
            self.bar.stop()

    def begin(self, what: str, total: int) -> None:
        """A phase of `total` pieces begins; what they are stands in `what`."""
        self.what, self.total, self.done, self.lines = what, total, 0, 0
        self.since = time.monotonic()
        self.bar.reset(self.row, total=total, description=what, rate="")
        if not self.console.is_terminal:
            self._line("begins")

    def told(self, pieces: int) -> None:
        """So many more pieces of the phase are done."""
        self.done += pieces
        rate = self.done / max(time.monotonic() - self.since, 1e-9)
        self.bar.update(self.row, advance=pieces, rate=f"{rate:.0f} a second")
        quarter = 4 * self.done // max(self.total, 1)
        if quarter > self.lines and not self.console.is_terminal:
            self.lines = quarter
            left = (self.total - self.done) / max(rate, 1e-9)
            said = f"{self.done} of {self.total}, {rate:.0f} a second"
            self._line(f"{said}, about {clock(left)} left" if self.done < self.total else said)

    def _line(self, said: str) -> None:
        at = clock(time.monotonic() - self.began)
        self.console.print(f"[{at}] {self.what}: {said}", soft_wrap=True)


class Again(Quiet):
    """Fills Progress for steps that are taken again: each is a piece of a Work's phase."""

    def __init__(self, work: Work, steps: int) -> None:
        self.work, self.steps = work, steps

    def stage(self, round: int, name: str) -> None:
        self.work.begin(f"take the steps of round {round} again", self.steps)

    def replayed(self, step: int) -> None:
        self.work.told(1)
