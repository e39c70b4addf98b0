"""Two versions as a picture: pass@k with bands, shares of right attempts, A's perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from flows.looks.plot import GRID, INK, SOFT, tidy
from pipeline.evaluation.contrast import Contrast, Curves, Side
from pipeline.types import Estimate

A, B, MATCHED = "#7b8794", "#0b7285", "#e67700"
DEEP = "depth>=3"


def plot_contrast(found: Contrast, names: tuple[str, str], file: Path) -> None:
    """Draw a contrast into a file whose ending names the format (PNG, SVG, PDF)."""
    matplotlib.use("Agg")
    parts = [curves for curves in found.curves if curves.part in ("all", DEEP)]
    canvas = Canvas(figsize=(11, 8.4), dpi=150, layout="constrained", facecolor="white")
    grid = canvas.add_gridspec(2, 2)
    canvas.suptitle(
        f"A = {names[0]}, B = {names[1]}: {len(found.tasks)} held-out tasks, {found.n} attempts of "
        "each",
        color=INK, fontsize=13, fontweight="bold", x=0.02, ha="left",
    )  # fmt: skip
    for seat, curves in enumerate(parts):
        wide = grid[0, :] if len(parts) == 1 else grid[0, seat]
        _curves(canvas.add_subplot(wide), found, curves)
    _histogram(canvas.add_subplot(grid[1, 0]), found)
    _perplexity(canvas.add_subplot(grid[1, 1]), found)
    canvas.savefig(file)


def _curves(axes: Axes, found: Contrast, curves: Curves) -> None:
    axes.set_title(
        f"pass@k, {curves.part} ({curves.tasks} tasks), 95 % intervals by task",
        color=SOFT, fontsize=10, loc="left",
    )  # fmt: skip
    heat = found.a.temperature
    _line(axes, curves.ks, curves.a, (A, f"A at temperature {heat:g}", "o"))
    _line(axes, curves.ks, curves.b, (B, f"B at temperature {heat:g}", "^"))
    if curves.matched and found.matched is not None:
        name = f"B at {found.matched.temperature:.2f}, A's token entropy"
        _line(axes, curves.ks, curves.matched, (MATCHED, name, "s"))
    axes.set_xscale("log", base=2)
    axes.set_xticks(curves.ks, labels=[str(k) for k in curves.ks])
    axes.set_xlabel("attempts k", color=INK)
    axes.set_ylim(0, 1.02)
    tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right")


def _line(
    axes: Axes, ks: Sequence[int], points: Sequence[Estimate], look: tuple[str, str, str]
) -> None:
    colour, name, marker = look
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
    values = [p.value for p in points]
    axes.plot(ks, values, color=colour, label=name, marker=marker, lw=1.8, ms=5)


def _histogram(axes: Axes, found: Contrast) -> None:
    axes.set_title("tasks by share of right attempts", color=SOFT, fontsize=10, loc="left")
    sides: list[tuple[Side, str, str]] = [(found.a, A, "A"), (found.b, B, "B")]
    bins = list(found.a.histogram)
    for offset, (side, colour, name) in zip((-0.2, 0.2), sides, strict=True):
        heights = [side.histogram[one] for one in bins]
        places = [seat + offset for seat in range(len(bins))]
        bars = axes.bar(places, heights, width=0.38, color=colour, label=name)
        axes.bar_label(bars, fontsize=8, color=SOFT, padding=1)
    axes.set_xticks(range(len(bins)), labels=["none", *bins[1:-1], "every"])
    axes.set_xlabel(f"share of {found.n} attempts that are right", color=INK)
    axes.set_ylabel("tasks", color=INK)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)
    axes.legend(frameon=False, fontsize=9)


def _perplexity(axes: Axes, found: Contrast) -> None:
    axes.set_title(
        "A's perplexity of each completion: 5, 25, 50, 75, 95 % of them",
        color=SOFT, fontsize=10, loc="left",
    )  # fmt: skip
    shown = [one for one in found.perplexity if one.quantiles]
    kinds = list(dict.fromkeys(one.kind for one in shown))
    for one in shown:
        low, first, middle, third, high = one.quantiles
        colour, offset = (A, -0.2) if one.of == "A" else (B, 0.2)
        place = kinds.index(one.kind) + offset
        axes.plot([place, place], [low, high], color=colour, lw=1.4, solid_capstyle="round")
        axes.bar(place, third - first, bottom=first, width=0.32, color=colour, alpha=0.55)
        axes.plot([place - 0.16, place + 0.16], [middle, middle], color=INK, lw=1.6)
    for colour, name in ((A, "written by A"), (B, "written by B")):
        axes.plot([], [], color=colour, lw=6, alpha=0.7, label=name)
    axes.set_xticks(range(len(kinds)), labels=kinds)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.2, 1.5, 2.0, 3.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("perplexity under A", color=INK)
    _plain(axes)
    axes.legend(frameon=False, fontsize=9)


def _plain(axes: Axes) -> None:
    """As `tidy`, with a height that is no share."""
    kept = axes.yaxis.get_major_formatter()
    tidy(axes)
    axes.yaxis.set_major_formatter(kept)
    axes.grid(visible=False, axis="x")
    axes.grid(color=GRID, linewidth=0.8, axis="y")
