"""The meter "rule": what math-verify says, and comparisons that do not end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from math_verify import parse, verify

from agents.verifiers.rule import MathChild, Rule, libraries
from agents.verifiers.rule import __file__ as rule_file
from pipeline.types import Reading, Status
from tests.agents.meters import group, said

# reference | answer, as they are handed to math-verify 0.9.0
ACCEPTED = r"""
$1/3$ | 12/36
$1/3$ | 0.333333
$\pi$ | 3.14159265
$(x+1)^2$ | $x^2+2x+1$
$\sqrt{8}$ | $2\sqrt{2}$
$1000$ | 1,000
$1000$ | $1{,}000$
$10$ | 10 cm
$x=1$ | 1
$1$ | $y=1$
$y=2x+1$ | $2x+1$
$2x+1$ | $y=2x+1$
$\{1,2\}$ | $2,1$
$\pm 2$ | $\{-2,2\}$
$1<x<2$ | $(1,2)$
$\begin{pmatrix}1\\2\end{pmatrix}$ | $\begin{bmatrix}1\\2\end{bmatrix}$
"""
FALSELY_ACCEPTED = r"""
$10$ | 10%
$50\%$ | 50
$5$ | 500%
$90^\circ$ | 90
$90^\circ$ | 90%
$\{1,2\}$ | $(1,2)$
$x=2,y=3$ | $(2,3)$
$0.\overline{3}$ | 0
1.5e3 | 1.5
$12:30$ | 0.4
0.0000001 | 0.0000002
3.1415926 | 3.1415927
10 cm | 10
"""
FALSELY_REJECTED = r"""
$(1,2)$ | $1<x<2$
$[0,1)$ | $0 \le x < 1$
$(1,2)$ | $(2,1)$
$\begin{pmatrix}1\\2\end{pmatrix}$ | $(1,2)$
$\frac{\pi}{2}$ | $90^\circ$
$0.\overline{3}$ | 1/3
1.5e3 | 1500
10 km | 10000 m
$101_2$ | 5
$\pi$ | 3.14
$5$ | 5.0000001
$\text{A}$ | A
A | The answer is A.
$x^2$ | x^2
7 | seven
$5$ | \boxed{4} and \boxed{5}
"""


def pairs(table: str) -> list[tuple[str, str]]:
    rows = [line.split(" | ") for line in table.strip().splitlines()]
    return [(reference, answer) for reference, answer in rows]


def library(reference: str, answer: str) -> bool:
    """math-verify in this process, without its alarms: pytest has one of its own."""
    expected, told = (parse(text, parsing_timeout=None) for text in (reference, answer))
    return verify(expected, told, timeout_seconds=None)


@pytest.mark.parametrize(("reference", "answer"), pairs(ACCEPTED))
def test_math_verify_accepts_what_is_equal(reference: str, answer: str) -> None:
    assert library(reference, answer)


@pytest.mark.parametrize(("reference", "answer"), pairs(FALSELY_ACCEPTED))
def test_math_verify_accepts_these_though_they_differ(reference: str, answer: str) -> None:
    assert library(reference, answer)


@pytest.mark.parametrize(("reference", "answer"), pairs(FALSELY_REJECTED))
def test_math_verify_rejects_these_though_they_are_equal(reference: str, answer: str) -> None:
    assert not library(reference, answer)


def test_math_verify_calls_nothing_equal_to_nothing() -> None:
    assert not library("", "")
    assert not library("$5$", "")


@pytest.fixture(scope="module")
def rule() -> Iterator[Rule]:
    meter = Rule(MathChild(deadline=20.0))
    yield meter
    meter.close()


def math(meter: Rule, reference: str, answer: str) -> Reading:
    return meter.read([group(said(answer), reference=reference)])[0][0]


@pytest.mark.parametrize(
    ("reference", "answer", "values"),
    [
        ("4", "4", (1.0, 1.0, 1.0)),
        ("Four", "four.", (0.0, 1.0, 1.0)),
        ("1/2", "0.5", (0.0, 0.0, 1.0)),
        (r"\frac{1}{2}", r"\dfrac12", (0.0, 0.0, 1.0)),  # bare LaTeX on both sides
        (r"$\frac{1}{2}$", r"\boxed{0.5}", (0.0, 0.0, 1.0)),
        ("x^2", "x*x", (0.0, 0.0, 0.0)),  # no LaTeX in it: read as a sentence
        ("x^2", r"x \cdot x", (0.0, 0.0, 1.0)),
        ("10", "about 10 cm", (0.0, 0.0, 1.0)),
        ("10", "It is 10, I think.", (0.0, 0.0, 1.0)),
        ("1.5e3", "1.5", (0.0, 0.0, 0.0)),  # between dollars it is no false accept
        ("4", "5", (0.0, 0.0, 0.0)),
        ("4", r"\boxed{}", (0.0, 0.0, 0.0)),
        ("4", r"\boxed{4} \boxed{5}", (0.0, 0.0, 0.0)),
        ("4", "4\n\x00\u2028", (0.0, 0.0, 1.0)),
    ],
)
def test_an_answer_is_compared_in_three_ways(
    rule: Rule, reference: str, answer: str, values: tuple[float, ...]
) -> None:
    assert math(rule, reference, answer) == Reading("rule", libraries(), "measured", values)
    assert (rule.timeouts, rule.child.starts <= 1) == (0, True)


def test_every_rollout_has_its_reading_whatever_its_form(rule: Rule) -> None:
    rows = rule.read([group(said("4"), "four", said("5")), group(said("7"), reference="7")])
    told: list[list[Status]] = [[one.status for one in row] for row in rows]
    assert told == [["measured", "malformed", "measured"], ["measured"]]
    assert (rows[0][1].values, rows[0][1].detail) == ((), "missing_reasoning")
    assert rows[1][0].values == (1.0, 1.0, 1.0)


def test_without_a_reference_nothing_is_measured(rule: Rule) -> None:
    assert math(rule, " ", "4").status == "not_measured"


def test_a_text_that_is_equal_anyway_asks_no_child() -> None:
    meter = Rule()
    assert math(meter, "9^9^9", "9^9^9").values == (1.0, 1.0, 1.0)
    assert meter.child.starts == 0


def test_the_version_names_every_library_that_decides() -> None:
    assert libraries().startswith("math-verify 0.9")
    assert Rule().version == libraries()


@pytest.mark.parametrize("answer", ["9^9^9", "$10^{10^{10}}$"])
def test_a_comparison_that_does_not_end_is_a_timeout_and_the_next_one_is_served(
    answer: str,
) -> None:
    meter = Rule(MathChild(deadline=2.0))
    first, second = meter.read([group(said(answer), said("8/2"))])[0]
    assert (first.status, first.values) == ("timeout", ())
    assert second.values == (0.0, 0.0, 1.0)
    assert (meter.timeouts, meter.child.starts) == (1, 2)
    meter.close()


# what holds an x ends by the signal of a spent timer, all else is a no
STALLS = "os.kill(os.getpid(), signal.SIGPROF) if 'x' in line else print('no', flush=True)"


def test_a_timeout_is_asked_once_in_a_reading_and_anew_in_the_next(tmp_path: Path) -> None:
    meter = Rule(scripted(tmp_path, STALLS))
    asked = [group(said("x"), said("x"), said("5"))]
    first = meter.read(asked)
    assert [one.status for one in first[0]] == ["timeout", "timeout", "measured"]
    assert first[0][0].detail == "not compared within 20 s of processor time"
    assert meter.timeouts == 1
    assert list(meter.known) == [("4", "5")]
    assert meter.read(asked) == first
    assert meter.timeouts == 2
    meter.close()


def test_a_reading_asks_nothing_more_after_eight_timeouts_whatever_is_known(
    tmp_path: Path,
) -> None:
    fresh, seasoned = Rule(scripted(tmp_path, STALLS)), Rule(scripted(tmp_path, STALLS))
    seasoned.read([group(said("6"), said("7"))])
    answers = ["5", *(f"x{i}" for i in range(9)), "6", "5"]
    found = [meter.read([group(*map(said, answers))])[0] for meter in (fresh, seasoned)]
    assert found[0] == found[1]
    assert [one.status for one in found[0]] == ["measured", *["timeout"] * 10, "measured"]
    assert fresh.timeouts == 8
    assert found[0][9].detail == "not asked: 8 comparisons of this reading had timed out"
    assert found[0][10].detail == found[0][9].detail
    fresh.close()
    seasoned.close()


def test_a_child_that_waits_for_the_processor_is_not_cut_short(tmp_path: Path) -> None:
    child = replace(scripted(tmp_path, "time.sleep(1), print('yes', flush=True)"), deadline=0.2)
    assert replace(child, slack=100.0).same("1/2", "0.5") == "yes"
    assert replace(child, slack=1.0).same("1/2", "0.5") == "timeout"  # the clock's, at last


def test_the_verdicts_kept_are_the_last_used(tmp_path: Path) -> None:
    meter = Rule(scripted(tmp_path, STALLS), kept=2)
    for answer in ("5", "6", "5", "7"):
        meter.read([group(said(answer))])
    assert [answer for _, answer in meter.known] == ["5", "7"]
    meter.close()


def test_a_child_that_was_killed_while_idle_is_replaced() -> None:
    child = MathChild(deadline=20.0)
    assert child.same("1/2", "0.5") == "yes"
    assert child._process is not None
    first = child._process.pid
    os.kill(first, signal.SIGKILL)
    child._process.wait()
    assert child.same("1/2", "0.25") == "no"
    assert (child.starts, child.timeouts) == (2, 0)
    second = child._process.pid
    child.close()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def scripted(folder: Path, then: str) -> MathChild:
    """A child that is ready, and answers every line as told."""
    program = folder / "child.py"
    program.write_text(
        f"import os, signal, sys, time\nprint('ready', flush=True)\nfor line in sys.stdin: {then}\n"
    )
    return MathChild(deadline=20.0, program=program)


@pytest.mark.parametrize("then", ["print('error', flush=True)", "sys.exit(1)"])
def test_a_comparison_that_ran_out_of_memory_is_no_verdict_and_is_asked_again(
    tmp_path: Path, then: str
) -> None:
    meter = Rule(scripted(tmp_path, then))
    assert math(meter, "1/2", "0.5").status == "score_error"
    assert meter.known == {}
    meter.close()


def test_a_child_that_cannot_start_says_how_to_learn_why(tmp_path: Path) -> None:
    child = replace(scripted(tmp_path, "pass"), program=tmp_path / "nowhere.py")
    with pytest.raises(RuntimeError, match=r"nowhere\.py` says why"):
        child.same("1", "2")


def test_a_meter_that_is_let_go_leaves_no_process() -> None:
    meter = Rule(MathChild(deadline=20.0))
    assert math(meter, "1/2", "0.5").status == "measured"
    assert meter.child._process is not None
    pid = meter.child._process.pid
    del meter
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_whose_parent_is_gone_ends_itself() -> None:
    # its own timer, without a handler
    child = MathChild(deadline=20.0)
    assert child.same("1", "2") == "no"
    process = child._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(b'[1.0, "5", "9^9^9"]\n')
    process.stdin.flush()
    assert process.wait(60) == -signal.SIGPROF
    child.close()


def test_the_meter_itself_loads_no_mathematics() -> None:
    named = re.findall(r"^\s*(?:from|import) (\w+)", Path(rule_file).read_text(), re.MULTILINE)
    assert "subprocess" in named  # the look does find
    assert {"math_verify", "sympy", "multiprocessing", "threading"} & set(named) == set()


@pytest.mark.parametrize("answer", ["", "\ud800", "1" * 6000, "x" * 100_000, "(" * 50, "\n\n"])
def test_any_text_at_all_gets_a_verdict(rule: Rule, answer: str) -> None:
    assert rule.child.same("5", answer) == "no"
