"""Environments: seed tasks on one side, the exam on the other, and nothing on both."""

from __future__ import annotations

import pytest

from pipeline.config import RunConfig
from pipeline.environments.rule_world import RuleWorld
from pipeline.environments.table import Row, Table, TooFewRows
from pipeline.worlds import rule

SMALL = {
    "probe": {"solver_tasks": 12, "verifier_tasks": 3, "generator_parents": 6},
    "data": {"seed_tasks": 80},
}


def world(seed: int = 1) -> RuleWorld:
    return RuleWorld(RunConfig.model_validate({"seed": seed, **SMALL}))


def test_no_seed_task_stands_in_the_exam() -> None:
    made = world()
    asked = set(made.probe_questions())
    assert not asked & {task.question for task in made.seed_tasks()}
    exam = made.exam()
    assert asked == {i.question for i in (*exam.items, *exam.pool_items)} | {
        t.question for t in exam.parents
    }


def test_the_exam_is_the_same_in_every_run_and_the_seeds_are_not() -> None:
    assert world(1).exam().items == world(2).exam().items
    assert world(1).exam().pool_items == world(2).exam().pool_items
    assert world(1).seed_tasks() != world(2).seed_tasks()
    assert world(1).seed_tasks() == world(1).seed_tasks()


def test_the_exam_asks_at_every_depth_and_the_seeds_stay_shallow() -> None:
    exam = world().exam()
    assert {item.depth for item in exam.items} == {1, 2, 3, 4, 5}
    depths = [problem.depth for t in world().seed_tasks() if (problem := rule.read(t.question))]
    assert set(depths) == {1, 2}


def test_an_item_shows_the_solver_no_reference() -> None:
    for item in world().exam().items:
        assert item.bare().reference == ""
        assert item.reference


def test_the_truth_of_the_world_tells_answers_and_reasoning_apart() -> None:
    exam = world().exam()
    item = next(i for i in exam.items if i.family == "gates")
    problem = rule.read(item.question)
    assert problem is not None
    assert exam.truth.right(item, item.reference.upper() + ".")
    assert not exam.truth.right(item, "the dodo")
    assert exam.truth.reasoned_right(item, f"So {problem.final} .")
    assert exam.truth.read("What is this?") is None


def rows(count: int) -> list[Row]:
    return [Row(i, f"question {i}", f"reference {i}") for i in range(1, count + 1)]


def test_a_files_question_is_trained_on_or_held_out_and_never_both() -> None:
    made = Table([*rows(40), Row(41, "QUESTION  7", "again")], RunConfig())
    train = {task.question.casefold() for task in made.seed_tasks()}
    held = {question.casefold() for question in made.probe_questions()}
    assert not train & held
    assert len(train) + len(held) == 40


def test_every_row_of_a_file_trains_or_is_held_out_unless_fewer_are_asked_for() -> None:
    assert len(Table(rows(3000), RunConfig()).seed_tasks()) == 2700
    fewer = RunConfig.model_validate({"data": {"seed_tasks": 50}})
    assert len(Table(rows(3000), fewer).seed_tasks()) == 50


def test_the_split_of_a_file_is_the_same_for_every_seed() -> None:
    one, two = (Table(rows(40), RunConfig(seed=seed)) for seed in (1, 2))
    assert one.probe_questions() == two.probe_questions()
    assert {t.id for t in one.seed_tasks()} == {t.id for t in two.seed_tasks()}


def test_a_file_too_small_to_split_is_refused() -> None:
    with pytest.raises(TooFewRows, match="3 distinct questions; at least 4"):
        Table(rows(3), RunConfig())


def test_a_file_tells_an_answer_by_its_text_and_reasoning_not_at_all() -> None:
    exam = Table(rows(40), RunConfig()).exam()
    item = exam.items[0]
    assert exam.truth.right(item, item.reference)
    assert exam.truth.reasoned_right(item, "anything") is None
