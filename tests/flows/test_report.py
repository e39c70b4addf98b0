from __future__ import annotations

import importlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.display import Lines, Pace, Panel, clock
from flows.errors import KNOWN, Refusal, explain, printable
from flows.looks.figures import Figure, RoundFigures
from flows.looks.plot import plot_climb
from flows.looks.report import axes_line, axes_table, listing, shown
from flows.owning import Interrupted, outcome
from flows.progress import Plan
from pipeline.types import StepRecord


def figure(value: float, name: str, part: str = "all") -> Figure:
    return Figure(value, value - 0.05, value + 0.05, 40, name, part)


ROWS = [
    RoundFigures(
        n,
        figure(0.25 + 0.2 * n, "accuracy", "depth>=3"),
        figure(0.7 + 0.1 * n, "pair_accuracy", "named"),
        figure(0.1 * n, "frontier_share") if n else None,
    )
    for n in range(3)
]
STEP = StepRecord(1, 1, (), (), {}, (), seconds={"attempt": 1.5, "learn": 0.5})


def drawn(thing: object, *, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, markup=False).print(thing)
    return out.getvalue()


def test_the_axes_fit_on_eighty_columns_with_intervals_and_change() -> None:
    text = drawn(axes_table(ROWS))
    assert "0.45 [.40, .50] +0.20" in text
    assert "0.90 [.85, .95] +0.20" in text
    assert "accuracy, depth>=3" in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_axis_that_was_not_probed_is_left_out_of_the_line() -> None:
    told = "round 0: solver 0.250 [0.200, 0.300], verifier 0.700 [0.650, 0.750]"
    assert axes_line(ROWS[0]) == told


def test_plain_lines_hold_no_control_character() -> None:
    out = io.StringIO()
    with Lines(Console(file=out, markup=False)) as lines:
        lines.begin(Plan("abc", 2, 4, 0))
        lines.stage(1, "climb")
        lines.step(STEP)
        lines.probed(ROWS)
        lines.probed(ROWS)
    text = out.getvalue()
    assert text.isascii()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "round 1: step 1, 2.00 s a step" in text
    assert text.count("round 2: solver") == 1


def test_the_panel_shows_round_stage_rate_time_left_and_axes() -> None:
    panel = Panel(Console(file=io.StringIO()))
    assert "load the base" in drawn(panel)
    panel.begin(Plan("abc", 2, 4, 0))
    panel.stage(1, "climb")
    panel.step(STEP)
    panel.probed(ROWS)
    text = drawn(panel)
    for part in ("run abc", "round 1 of 2", "step 1/8", "2.00 s a step", "left", "0.45"):
        assert part in text


def test_the_time_left_counts_steps_and_what_is_beside_them() -> None:
    pace = Pace()
    assert pace.left(1) is None
    pace.begin(Plan("abc", 3, 4, 0))
    pace.stage("climb")
    pace.step(STEP)
    pace.others = {"probe": 10.0, "load": 99.0}
    # 3 steps of this round and 8 of the next two at 2 s; two and a half probes of 10 s
    assert pace.left(1) == pytest.approx(11 * 2.0 + 2.5 * 10.0)
    assert (clock(9.9), clock(75), clock(3661)) == ("0:09", "1:15", "1:01:01")


def test_no_column_of_a_listing_vanishes_on_a_narrow_screen() -> None:
    rows = [{"id": "r02-s0005-n01-g3", "reward": 0.5, "a": "x" * 200, "b": "y" * 200}]
    lines = drawn(listing(rows, (), 80), width=1000).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    for part in ("r02-s0005-n01-g3", "0.500", "x" * 10, "y" * 10):
        assert any(part in line for line in lines)


def test_what_a_model_wrote_neither_steers_the_terminal_nor_marks_up() -> None:
    rows = [{"text": "[red]x[/red] \x1b[31m\u202e\n" + "y" * 100, "n": None}]
    text = drawn(listing(rows, (), 80))
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
    assert printable("\x07\u202e") == "\\x07\\x202e"
    assert shown(0.123456) == "0.123"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_climb_is_drawn_to_a_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"climb.{ending}"
    plot_climb([*ROWS[:1], replace(ROWS[1], solver=None), ROWS[2]], "run abc", file)
    data = file.read_bytes()
    assert len(data) > 10_000
    assert data[:4] == {"png": b"\x89PNG", "svg": b"<?xm"}[ending]


def test_every_way_out_has_a_code_and_a_next_move() -> None:
    assert explain(Refusal("no", ["a", "b"], "do this")) == (2, "no\n  - a\n  - b\ndo this")
    assert explain(Interrupted("stopped by Ctrl-C")) == (130, "stopped by Ctrl-C")
    code, told = explain(OSError(28, "No space left on device"))
    assert (code, "resume" in told) == (1, True)
    code, told = explain(KeyError("x"))
    assert (code, "--debug" in told) == (1, True)


@pytest.mark.parametrize("name", KNOWN)
def test_every_exception_that_is_told_by_name_is_still_called_so(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), BaseException)


def test_how_a_run_ended_is_told_apart() -> None:
    assert outcome(Interrupted("stopped by SIGTERM")) == ("stopped", "stopped by SIGTERM")
    assert outcome(OSError(28, "No space left on device"))[0] == "paused"
    assert outcome(RuntimeError("x")) == ("failed", "RuntimeError: x")
