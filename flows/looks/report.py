"""Tables: the climb by round, and any listing. Content is shown as text, never as markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.errors import printable
from flows.looks.figures import AXES, Figure, RoundFigures, title_of

WIDEST = 120  # characters of a cell of a listing
SHORT = 21  # characters up to which a column keeps its width, however narrow the screen
COLOURS = {"solver": "cyan", "verifier": "magenta", "generator": "yellow"}


def axes_table(rows: Sequence[RoundFigures], *, title: str = "") -> Table:
    """The three axes by round with their 95 % intervals, and the change since round 0."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    table.add_column("round", justify="right", min_width=5)
    for axis in AXES:
        heading = Text(axis, style=f"bold {COLOURS[axis]}")
        heading.append(f"\n{title_of(list(rows), axis)}", style="dim")
        table.add_column(heading, justify="left", no_wrap=True)
    for row in rows:
        table.add_row(str(row.round), *(_cell(row.axis(axis), rows[0].axis(axis)) for axis in AXES))
    return table


def _cell(figure: Figure | None, start: Figure | None) -> Text:
    if figure is None:
        return Text("-", style="dim")
    text = Text(f"{figure.value:.2f}", style="bold")
    text.append(f" [{_bare(figure.low)}, {_bare(figure.high)}]", style="dim")
    if start is not None and figure is not start:
        change = figure.value - start.value
        text.append(f" {change:+.2f}", style="green" if change > 0 else "red" if change < 0 else "")
    return text


def _bare(share: float) -> str:
    """Two decimals without the leading zero, so that three axes fit on 80 columns."""
    return f"{share:.2f}".removeprefix("0") if 0.0 <= share < 0.995 else f"{share:.2f}"


def axes_line(row: RoundFigures) -> str:
    """One round's figures as a plain line."""
    told = [
        f"{axis} {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
        for axis in AXES
        if (figure := row.axis(axis)) is not None
    ]
    return f"round {row.round}: " + ", ".join(told)


def further(run: str) -> str:
    """The commands that look further into a run."""
    return (
        f"Look further:\n"
        f"  coclimb rounds {run}                     the climb, round by round\n"
        f"  coclimb probe {run} --plot climb.png     every figure, and a picture\n"
        f"  coclimb tasks {run} --origin consensus   what the generator proposed\n"
        f"  coclimb rollouts {run} --round 1         what was attempted and what it earned\n"
        f"  coclimb verify {run}                     that nothing was lost or changed"
    )


def listing(rows: Sequence[Mapping[str, JsonValue]], columns: Sequence[str], width: int) -> Table:
    """Rows as a table of at most `width` characters; the columns named, or all of the first row.

    Short columns keep their width and long texts share the rest, so that no column vanishes.
    """
    names = list(columns) or list(rows[0] if rows else ())
    widest = {n: max([len(n), *(len(shown(row.get(n))) for row in rows)]) for n in names}
    long = [name for name in names if widest[name] > SHORT]
    left = width - 3 * len(names) - sum(widest[name] for name in names if name not in long)
    share = max(left // max(len(long), 1), SHORT)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(
            name,
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=min(widest[name], share) if name in long else widest[name],
        )
    for row in rows:
        table.add_row(*(Text(shown(row.get(name))) for name in names))
    return table


def shown(value: JsonValue) -> str:
    """A value in a cell: short, on one line, with no character that steers a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else json.dumps(value)
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= WIDEST else flat[: WIDEST - 3] + "..."


def as_json(value: object) -> str:
    """JSON for other programs, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes no markup, emoji or highlighting from what it prints.

    width  characters of a line; the terminal's where None
    """
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
