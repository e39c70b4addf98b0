"""The climb as a picture: solver against verifier, a point per round, the generator beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flows.looks.figures import Figure, RoundFigures, title_of

INK, SOFT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
SOLVER, VERIFIER, GENERATOR = "#0b7285", "#9c36b5", "#e67700"


def plot_climb(rows: Sequence[RoundFigures], name: str, file: Path) -> None:
    """Draw the rounds into a file whose ending names the format (PNG, SVG, PDF)."""
    matplotlib.use("Agg")
    canvas = Canvas(figsize=(11, 5.2), dpi=150, layout="constrained", facecolor="white")
    climb, by_round = canvas.subplots(1, 2, width_ratios=(1.25, 1))
    canvas.suptitle(
        f"The climb of {name}", color=INK, fontsize=13, fontweight="bold", x=0.02, ha="left"
    )
    _climb(climb, rows)
    _by_round(by_round, rows)
    canvas.savefig(file)


def _climb(axes: Axes, rows: Sequence[RoundFigures]) -> None:
    points = [(r.round, r.solver, r.verifier) for r in rows if r.solver and r.verifier]
    axes.set_title(
        "solver against verifier, one point per round", color=SOFT, fontsize=10, loc="left"
    )
    axes.set_xlabel(f"solver: {title_of(list(rows), 'solver')}", color=SOLVER)
    axes.set_ylabel(f"verifier: {title_of(list(rows), 'verifier')}", color=VERIFIER)
    x = [solver.value for _, solver, _ in points]
    y = [verifier.value for _, _, verifier in points]
    axes.errorbar(
        x,
        y,
        xerr=_whiskers([solver for _, solver, _ in points]),
        yerr=_whiskers([verifier for _, _, verifier in points]),
        fmt="none",
        ecolor="#cbd2d9",
        elinewidth=1.2,
        capsize=2.5,
        zorder=1,
    )
    for (x0, y0), (x1, y1) in zip(
        zip(x, y, strict=True), list(zip(x, y, strict=True))[1:], strict=False
    ):
        axes.annotate(
            "",
            (x1, y1),
            (x0, y0),
            arrowprops={"arrowstyle": "-|>", "color": SOFT, "lw": 1.4, "shrinkA": 9, "shrinkB": 9},
            zorder=2,
        )
    shades = [i / max(len(points) - 1, 1) for i in range(len(points))]
    axes.scatter(
        x, y, c=shades, cmap="viridis_r", s=260, edgecolors="white", linewidths=1.5, zorder=3
    )
    for (number, _, _), x0, y0, shade in zip(points, x, y, shades, strict=True):
        colour = INK if shade < 0.4 else "white"
        axes.annotate(
            str(number), (x0, y0), color=colour, ha="center", va="center", fontsize=9,
            fontweight="bold", zorder=4,
        )  # fmt: skip
    tidy(axes)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _by_round(axes: Axes, rows: Sequence[RoundFigures]) -> None:
    axes.set_title("each axis by round, 95 % intervals", color=SOFT, fontsize=10, loc="left")
    ends: list[tuple[float, str, str]] = []
    for axis, colour, marker in (
        ("generator", GENERATOR, "s"),
        ("solver", SOLVER, "o"),
        ("verifier", VERIFIER, "^"),
    ):
        points = [(row.round, figure) for row in rows if (figure := row.axis(axis)) is not None]
        if not points:
            continue
        rounds = [number for number, _ in points]
        main = axis == "generator"
        axes.fill_between(
            rounds,
            [figure.low for _, figure in points],
            [figure.high for _, figure in points],
            color=colour,
            alpha=0.16 if main else 0.07,
            linewidth=0,
        )
        axes.plot(
            rounds,
            [figure.value for _, figure in points],
            color=colour,
            marker=marker,
            lw=2.4 if main else 1.6,
            ms=6 if main else 5,
        )
        ends.append((points[-1][1].value, f"{axis}\n{points[0][1].title}", colour))
    last = max((row.round for row in rows), default=0)
    for height, text, colour in _apart(ends):
        axes.text(last + 0.12, height, text, color=colour, va="center", fontsize=9)
    axes.set_xlim(-0.15, last + 0.15)
    axes.set_xlabel("round", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.02)
    tidy(axes)


def _apart(ends: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Labels beside the ends of their lines, pushed up where two would overlap."""
    placed: list[tuple[float, str, str]] = []
    for height, text, colour in sorted(ends):
        lowest = placed[-1][0] + 0.11 if placed else 0.0
        placed.append((max(height, lowest), text, colour))
    return placed


def _whiskers(figures: Sequence[Figure]) -> list[list[float]]:
    return [[f.value - f.low for f in figures], [f.high - f.value for f in figures]]


def tidy(axes: Axes) -> None:
    """A share upwards, a quiet grid, no frame."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#cbd2d9")
    axes.tick_params(colors=SOFT, labelsize=9)
