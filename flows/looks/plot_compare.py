"""Runs side by side as a picture: each axis by round, and each run's end against the first's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from flows.looks.beside import Beside, title
from flows.looks.figures import AXES
from flows.looks.plot import INK, SOFT, tidy

COLOURS = ("#7b8794", "#0b7285", "#9c36b5", "#e67700", "#2b8a3e", "#c92a2a", "#364fc7")


def plot_runs(found: Sequence[Beside], file: Path) -> None:
    """Draw the runs into a file whose ending names the format (PNG, SVG, PDF)."""
    matplotlib.use("Agg")
    axes_shown = [a for a in AXES if any(c.axis == a for run in found for c in run.climbs)]
    tall = 3.6 + 0.3 * len(found)
    canvas = Canvas(
        figsize=(4.2 * len(axes_shown), tall + 1.4), dpi=150, layout="constrained",
        facecolor="white",
    )  # fmt: skip
    canvas.suptitle(
        "Runs side by side: 95 % intervals by task",
        color=INK, fontsize=13, fontweight="bold", x=0.02, ha="left",
    )  # fmt: skip
    heights = (3.6, 0.5 + 0.3 * len(found))
    panels = canvas.subplots(2, len(axes_shown), squeeze=False, height_ratios=heights)
    for seat, axis in enumerate(axes_shown):
        _by_round(panels[0][seat], found, axis)
        _against(panels[1][seat], found, axis)
        if seat:
            panels[1][seat].set_yticklabels([])
    handles, labels = panels[0][0].get_legend_handles_labels()
    canvas.legend(
        handles, labels, loc="outside lower center", ncols=min(len(found), 5), frameon=False,
        fontsize=9,
    )  # fmt: skip
    canvas.savefig(file)


def _by_round(axes: Axes, found: Sequence[Beside], axis: str) -> None:
    for seat, run in enumerate(found):
        colour = COLOURS[seat % len(COLOURS)]
        for climb in (c for c in run.climbs if c.axis == axis):
            rounds = sorted(climb.rounds)
            figures = [climb.rounds[round] for round in rounds]
            low, high = [f.low for f in figures], [f.high for f in figures]
            axes.fill_between(rounds, low, high, color=colour, alpha=0.1, linewidth=0)
            axes.plot(
                rounds, [f.value for f in figures], color=colour, marker="o", ms=4, lw=1.8,
                label=title(run),
            )  # fmt: skip
            axes.set_title(f"{axis}: {climb.figure}", color=SOFT, fontsize=10, loc="left")
    axes.set_xlabel("round", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    tidy(axes)


def _against(axes: Axes, found: Sequence[Beside], axis: str) -> None:
    told = f"end minus that of {title(found[0])}; hollow: unpaired"
    axes.set_title(told, color=SOFT, fontsize=9, loc="left")
    axes.axvline(0, color=SOFT, lw=1)
    names = []
    for seat, run in enumerate(found[1:], 1):
        names.append(title(run))
        for climb in (c for c in run.climbs if c.axis == axis and c.difference is not None):
            figure = climb.difference
            if figure is not None:
                whiskers = [[figure.value - figure.low], [figure.high - figure.value]]
                axes.errorbar(
                    [figure.value], [seat - 1], xerr=whiskers, fmt="o", capsize=3, ms=5,
                    color=COLOURS[seat % len(COLOURS)],
                    markerfacecolor=COLOURS[seat % len(COLOURS)] if climb.paired else "white",
                )  # fmt: skip
    tidy(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}%" if value else "0")
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.4, -0.6)
