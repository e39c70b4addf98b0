from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, text
from store_story import Writer, new_run

import store as store_room
from store import memory, questions
from store.database import Store
from store.errors import Unknown
from store.leases import acquire_lease
from store.ledger import Truth, record_truth
from store.questions import Filter


def test_runs_tell_how_far_each_came(told: Store) -> None:
    done, idle = "runa", new_run(told, "idle", rounds=5)
    listed = questions.runs(told)
    assert [(row["id"], row["status"]) for row in listed] == [(done, "done"), (idle, "running")]
    assert [(row["rounds_done"], row["rounds_asked"]) for row in listed] == [(2, 2), (0, 5)]
    assert [row["reason"] for row in listed] == ["all rounds committed", None]
    assert [row["owner"] for row in listed] == [None, None]
    json.dumps(listed)


def test_rounds_give_the_headline_figure_of_each_axis_from_round_0_on(told: Store) -> None:
    listed = questions.rounds(told, "runa")
    assert [row["round"] for row in listed] == [0, 1, 2]
    assert listed[1]["solver"] == {
        "value": pytest.approx(0.4),
        "low": pytest.approx(0.3),
        "high": pytest.approx(0.5),
        "n": 9,
        "name": "accuracy",
        "slice": "depth>=3",
        "version": "solver@2",
    }
    assert listed[2]["verifier"]["value"] == pytest.approx(0.8)  # type: ignore[index,call-overload]
    assert listed[2]["verifier"]["slice"] == "named"  # type: ignore[index,call-overload]
    assert listed[0]["generator"]["name"] == "frontier_share"  # type: ignore[index,call-overload]
    json.dumps(listed)


def test_an_axis_falls_back_to_its_next_figure(told: Store) -> None:
    run = "runa"
    with told.writing(None) as session:
        session.execute(text("DELETE FROM probe WHERE slice IN ('named', 'depth>=3')"))
        session.execute(text("DELETE FROM probe WHERE axis = 'generator'"))
    first = questions.rounds(told, run)[0]
    assert first["solver"]["slice"] == "all"  # type: ignore[index,call-overload]
    assert first["verifier"]["slice"] == "all"  # type: ignore[index,call-overload]
    assert first["generator"] is None


def test_a_fork_lists_the_rounds_it_inherited(told: Store) -> None:
    parent = "runa"
    child = new_run(told, "child", rounds=2, parent=(parent, 1))
    assert [row["round"] for row in questions.rounds(told, child)] == [0, 1]
    assert questions.rounds(told, child) == questions.rounds(told, parent)[:2]
    assert questions.runs(told)[1]["rounds_done"] == 1
    lease = acquire_lease(told, child, "teller", 600)
    for act in Writer(told, lease).acts((2,)):
        act()
    assert [row["round"] for row in questions.rounds(told, child)] == [0, 1, 2]
    assert len(questions.syncs(told, child)) == 2
    assert len(questions.updates(told, child)) == 4
    assert len(questions.probes(told, child)) == 15


def test_tasks_are_narrowed_by_round_origin_and_drop(told: Store) -> None:
    run = "runa"
    everything = questions.tasks(told, run)
    assert len(everything) == 8
    seeds = questions.tasks(told, run, Filter(origin="rule"))
    assert [row["id"] for row in seeds] == ["seed-0", "seed-1", "seed-2", "seed-3"]
    assert [row["right"] for row in seeds] == [True, None, None, None]
    second = questions.tasks(told, run, Filter(round=2, drop="admitted"))
    assert [row["id"] for row in second] == ["r02-p001-g1", "r02-p000-g1"]
    assert (second[0]["beats"], second[0]["parent"]) == (0.5, "seed-1")
    dropped = questions.tasks(told, run, Filter(round=1, drop="malformed"))
    assert [row["id"] for row in dropped] == ["r01-p000-g0", "r01-p001-g0"]
    assert questions.tasks(told, run, Filter(drop="copy_of_seed")) == []
    assert len(questions.tasks(told, run, Filter(limit=3))) == 3
    json.dumps([everything, dropped])


def test_rollouts_show_form_reward_and_truth(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "teller", 600)
    acts = Writer(store, lease).acts((0, 1))
    for act in acts[:-2]:
        act()
    record_truth(store, lease, 1, [Truth("rollout", "r01-s0001-n0-g1", False, "rule")])
    listed = questions.rollouts(store, run, Filter(role="solver", task="seed-0"))
    assert [(row["id"], row["form"], row["right"]) for row in listed] == [
        ("r01-s0001-n0-g0", "unclosed", None),
        ("r01-s0001-n0-g1", "ok", False),
    ]
    assert listed[0]["reward"] is None
    assert listed[0]["status"] == "malformed"
    assert isinstance(listed[1]["reward"], float)
    formed = questions.rollouts(store, run, Filter(form="ok", round=1))
    assert len(formed) == 8
    assert {row["role"] for row in formed} == {"solver", "generator"}
    json.dumps(formed)


def test_a_run_is_found_by_id_prefix_name_or_last(store: Store) -> None:
    first, second = new_run(store, "abc"), new_run(store, "abd")
    assert questions.resolve(store, "runabc") == first
    assert questions.resolve(store, "abd") == second
    assert questions.resolve(store, "last") == second
    assert questions.resolve(store, "runabc"[:6]) == first
    with pytest.raises(Unknown, match="may mean runabc, runabd"):
        questions.resolve(store, "runab")
    for wrong in ("x", "", "%"):
        with pytest.raises(Unknown, match="no run is called"):
            questions.resolve(store, wrong)


def test_an_empty_store_has_no_last_run(store: Store) -> None:
    with pytest.raises(Unknown, match="no run is called 'last'"):
        questions.resolve(store, "last")


LISTINGS: dict[str, Callable[[Store, str], object]] = {
    "rounds": questions.rounds,
    "probes": questions.probes,
    "syncs": questions.syncs,
    "updates": questions.updates,
    "tasks": questions.tasks,
    "admitted": lambda store, run: questions.tasks(store, run, Filter(drop="admitted")),
    "dropped": lambda store, run: questions.tasks(store, run, Filter(drop="malformed")),
    "rollouts": questions.rollouts,
    "rollouts of a task": lambda s, run: questions.rollouts(s, run, Filter(task="seed-0")),
    "memory": lambda store, run: memory.memory(store, run, 9),
    "seen": lambda store, run: memory.seen_questions(store, run, 9),
    "resolve": lambda store, run: questions.resolve(store, "run"),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_answers_come_from_indexes(told: Store, name: str) -> None:
    run = "runa"
    asked: list[tuple[str, object]] = []

    def listen(conn: object, cursor: object, statement: str, given: object, *more: object) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, given))

    event.listen(told._engine, "before_cursor_execute", listen)
    LISTINGS[name](told, run)
    event.remove(told._engine, "before_cursor_execute", listen)
    assert asked
    with told.reading() as session:
        connection = session.connection()
        if not told.sqlite:  # so few rows are read whole unless that is made dear
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain, column, walk = EXPLAIN[told.sqlite]
        for statement, given in asked:
            plan = connection.exec_driver_sql(f"{explain} {statement}", given)  # type: ignore[arg-type]
            steps = [row[column] for row in plan]
            assert steps
            assert not [step for step in steps if walk.search(step)], (statement, steps)


# by whether it is SQLite: how to ask for the plan, where its steps stand, a walk through a table
EXPLAIN = {
    True: ("EXPLAIN QUERY PLAN", 3, re.compile(r"^SCAN")),
    False: ("EXPLAIN", 0, re.compile(r"Seq Scan on (?!run\b)")),
}


def test_truth_is_read_by_the_questions_and_the_ledger_s_own_checks_alone() -> None:
    """Training takes what it reads from ledger and memory; neither selects from truth."""
    room = Path(store_room.__file__).parent
    readers = set()
    for file in room.glob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Name)}
        if "TruthRow" in names:
            readers.add(file.name)
    # schema defines it, ledger inserts it, stages folds it into the probe stage's digest
    assert readers == {"questions.py", "ledger.py", "stages.py"}
    ledger = ast.parse((room / "ledger.py").read_text())
    uses = [n for n in ast.walk(ledger) if isinstance(n, ast.Name) and n.id == "TruthRow"]
    writer = next(n for n in ledger.body if getattr(n, "name", "") == "record_truth")
    assert len(uses) == 1
    assert uses[0] in list(ast.walk(writer))
