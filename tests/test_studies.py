"""What the programs beside the tests say, where a figure of theirs can be worked by hand."""

from __future__ import annotations

import re
from pathlib import Path

from tests.study_arms import against_full


def test_an_arm_is_set_against_the_full_loop_seed_by_seed() -> None:
    # per seed 0.4 - 0.2 and 0.6 - 0.6: mean 0.1, sd 0.1414, half 12.706 * 0.1414 / sqrt(2) = 1.271
    arm = [{"a": 0.3, "b": 0.5}, {"a": 0.5, "b": 0.7}]
    full = [{"a": 0.1, "b": 0.3}, {"a": 0.5, "b": 0.7}]
    assert against_full(arm, full) == "+0.100 [-1.171, +1.371]"


def test_tasks_that_a_run_lacks_are_left_out_of_every_seed() -> None:
    arm = [{"a": 0.5, "only": 1.0}, {"a": 0.7}]
    full = [{"a": 0.4}, {"a": 0.6, "other": 0.0}]
    assert against_full(arm, full) == "+0.100 [+0.100, +0.100]"


def test_one_seed_or_no_common_task_tells_nothing() -> None:
    assert against_full([{"a": 0.5, "b": 0.1}], [{"a": 0.4, "b": 0.3}]) == "-"
    assert against_full([{"a": 0.5}] * 2, [{"b": 0.4}] * 2) == "-"


def test_programs_are_named_as_modules_which_find_the_house_wherever_it_lies() -> None:
    here = Path(__file__).resolve().parent
    pages = [here.parent / "README.md", *here.glob("*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"python -m tests\.(\w+)", text))
    assert len(named) > 15
    assert all((here / f"{name}.py").is_file() for name in named)
    assert re.findall(r"python tests/\w+", text) == []
