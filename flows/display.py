"""A run while it works: a live panel on a terminal, the same as plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.looks.figures import RoundFigures
from flows.looks.report import axes_line, axes_table
from flows.progress import Plan
from pipeline.types import StepRecord

WORDS = {
    "load": "load the base and the parts",
    "propose": "the generator proposes",
    "climb": "attempt, measure, learn",
    "sync": "sync the proxy",
    "checkpoint": "write a checkpoint",
    "probe": "probe all three axes",
    "replay": "take committed steps again",
}
BESIDE = ("propose", "sync", "checkpoint", "probe")  # stages of a round beside its steps


class Pace:
    """How fast a run goes and how long the rest will take, from what it has done so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.plan = Plan("", 0, 0, 0)
        self.seconds: list[float] = []
        self.others: dict[str, float] = {}
        self.taken = 0
        self._stage, self._since = "", self.began

    def begin(self, plan: Plan) -> None:
        self.plan = plan

    def stage(self, name: str) -> None:
        """Note that a stage begins, and how long the one before it took."""
        now = time.monotonic()
        if self._stage and self._stage != "climb":
            self.others[self._stage] = now - self._since
        self._stage, self._since = name, now
        if name == "climb":
            self.taken = 0

    def step(self, record: StepRecord) -> None:
        self.seconds.append(sum(record.seconds.values()))
        self.taken = record.step - (record.round - 1) * self.plan.steps

    @property
    def per_step(self) -> float | None:
        """Mean seconds of the newest steps, or None before the first."""
        newest = self.seconds[-16:]
        return sum(newest) / len(newest) if newest else None

    def left(self, round: int) -> float | None:
        """Seconds that the rest will take, or None where nothing tells yet."""
        if self.per_step is None:
            return None
        rounds = self.plan.rounds - max(round, 1)
        steps = self.plan.steps * (rounds + 1) - self.taken
        beside = sum(self.others.get(name, 0.0) for name in BESIDE)
        return steps * self.per_step + (rounds + 0.5) * beside


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are any."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    short = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else short


class Lines:
    """Fills Progress with plain lines, without a control character; for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self.console, self.pace, self.told = console, Pace(), -1

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *left: object) -> None:
        return None

    def begin(self, plan: Plan) -> None:
        self.pace.begin(plan)
        self.say(f"run {plan.run}: {plan.rounds} rounds of {plan.steps} steps, {plan.done} done")

    def stage(self, round: int, name: str) -> None:
        self.pace.stage(name)
        where = f"round {round}/{self.pace.plan.rounds}: " if self.pace.plan.run else ""
        self.say(where + WORDS[name])

    def step(self, record: StepRecord) -> None:
        self.pace.step(record)
        every = max(self.pace.plan.steps // 4, 1)
        if self.pace.taken % every == 0:
            self.say(f"round {record.round}: step {record.step}, {_rate(self.pace, record.round)}")

    def replayed(self, step: int) -> None:
        return None

    def probed(self, rows: Sequence[RoundFigures]) -> None:
        for row in rows:
            if row.round > self.told:
                self.say(axes_line(row))
                self.told = row.round

    def say(self, text: str) -> None:
        self.console.print(f"[{clock(time.monotonic() - self.pace.began)}] {text}", soft_wrap=True)


class Panel:
    """Fills Progress with a panel that stays in place: round, stage, rate, time left, the axes."""

    def __init__(self, console: Console) -> None:
        self.console, self.pace = console, Pace()
        self.round, self.name, self.rows = 0, "", list[RoundFigures]()
        self.screen = Screen(self, console=console, refresh_per_second=4)

    def __enter__(self) -> Panel:
        self.screen.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.screen.stop()

    def __rich__(self) -> Group:
        """What the panel shows now."""
        plan, elapsed = self.pace.plan, clock(time.monotonic() - self.pace.began)
        if not plan.run:
            return Group(Text(f"{WORDS['load']}   {elapsed}"))
        head = Text.assemble(
            ("coclimb ", "bold"),
            (f"run {plan.run}", "bold cyan"),
            f"   round {self.round} of {plan.rounds}   ",
            (WORDS.get(self.name, self.name), "italic"),
        )
        parts: list[Text | Table] = [head, self._bar()]
        tail = Text(f"{_rate(self.pace, self.round)}   elapsed {elapsed}", style="dim")
        parts.append(tail)
        if self.rows:
            parts.append(axes_table(self.rows))
        return Group(*parts)

    def _bar(self) -> Table:
        plan = self.pace.plan
        done = max(self.round - 1, 0) * plan.steps + self.pace.taken
        bar = Table.grid(padding=(0, 1))
        total = plan.rounds * plan.steps
        bar.add_row(ProgressBar(total=total, completed=done, width=40), f"step {done}/{total}")
        return bar

    def begin(self, plan: Plan) -> None:
        self.pace.begin(plan)
        self.round = plan.done

    def stage(self, round: int, name: str) -> None:
        self.pace.stage(name)
        if round != self.round:
            self.pace.taken = 0
        self.round, self.name = round, name

    def step(self, record: StepRecord) -> None:
        self.pace.step(record)

    def replayed(self, step: int) -> None:
        self.pace.taken = step - max(self.round - 1, 0) * self.pace.plan.steps

    def probed(self, rows: Sequence[RoundFigures]) -> None:
        self.rows = list(rows)

    def say(self, text: str) -> None:
        self.screen.console.print(Text(text))


def _rate(pace: Pace, round: int) -> str:
    left = pace.left(round)
    if pace.per_step is None or left is None:
        return "rate and time left show after the first step"
    return f"{pace.per_step:.2f} s a step   about {clock(left)} left"
