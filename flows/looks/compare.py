"""`coclimb compare RUN RUN...`: runs side by side, each against the first on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from flows.errors import Refusal
from flows.home import Home
from flows.looks.beside import Beside, Climb, side_by_side, title
from flows.looks.figures import AXES
from flows.looks.listing import FORMATS, reading, table
from flows.looks.passk_tables import Row, say, told
from flows.looks.report import as_json, console, shown

_BESIDE = TypeAdapter(tuple[Beside, ...])


def compare(home: Home, names: Sequence[str], *, json: bool, plot: Path | None) -> None:
    """Set runs side by side and print them; with a file, draw them."""
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise Refusal(f"--plot {plot}: expected a file that ends in {', '.join(FORMATS)}")
    with reading(home) as store:
        found = side_by_side(store, names)
    if plot is not None:
        from flows.looks.plot_compare import plot_runs  # noqa: PLC0415 - half a second, for one option

        plot_runs(found, plot)
        console(stderr=True).print(f"drew {plot}", soft_wrap=True)
    if json:
        print(as_json(_BESIDE.dump_python(found, mode="json")))
    else:
        _show(found)


def _show(found: Sequence[Beside]) -> None:
    say("95 % intervals by task: what another seed of the same settings would do is not in them")
    for axis in AXES:
        rows = [_line(run, climb) for run in found for climb in run.climbs if climb.axis == axis]
        if rows:
            titles = {c.figure for run in found for c in run.climbs if c.axis == axis}
            say(f"\n{axis}: {' / '.join(sorted(titles))}")
            table(rows)
        for run in found:
            if any(_unmatched(climb) for climb in run.climbs if climb.axis == axis):
                say(f"{title(run)} is set unpaired: its tasks are not those of {title(found[0])}")
    say("\nwhat it took: written tokens that steps learned from, and the seconds of steps")
    table(
        [
            {
                "run": title(run), "id": run.run, "rounds": run.rounds, "steps": run.steps,
                "tokens": run.tokens, "seconds": run.seconds,
            }
            for run in found
        ]
    )  # fmt: skip
    if found[0].settings:
        say("\nsettings that differ")
        table(
            [
                {"setting": key, **{title(run): shown(run.settings[key]) for run in found}}
                for key in found[0].settings
            ]
        )


def _unmatched(climb: Climb) -> bool:
    return climb.difference is not None and not climb.paired


def _line(run: Beside, climb: Climb) -> Row:
    return {
        "run": title(run),
        "start": told(climb.start),
        "end": told(climb.end),
        "gain": "-" if climb.gain is None else told(climb.gain, "+"),
        "end - first's": "-" if climb.difference is None else told(climb.difference, "+"),
    }
