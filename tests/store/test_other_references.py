"""Tasks with several references, through the store and back."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import create_engine, inspect, text
from store_story import SEEDS, new_run

from pipeline.types import Task
from store.database import Store, migrate, parse_url
from store.digests import canonical, digest_of
from store.leases import acquire_lease
from store.ledger import record_seed_tasks, seed_tasks

SEVERAL = replace(SEEDS[0], other_references=("one", "1\x00", "\ud800 half"))


def test_other_references_come_back_to_the_letter(store: Store) -> None:
    run = new_run(store)
    lease = acquire_lease(store, run, "teller", 600)
    record_seed_tasks(store, lease, [SEVERAL, *SEEDS[1:]])
    assert seed_tasks(store, run) == [SEVERAL, *SEEDS[1:]]


def test_a_task_without_others_has_the_digest_it_had_before_there_could_be_some() -> None:
    task = Task("t", "What?", "this", "human")
    before = (
        b'{"confidence":1,"id":"t","origin":"human","parent_id":null,"proposal_id":null,'
        b'"question":"What?","reference":"this","round":0}'
    )
    assert canonical(task) == before
    several = replace(task, other_references=("that",))
    assert b'"other_references":["that"]' in canonical(several)
    assert digest_of(task) != digest_of(several) != digest_of(replace(task, reference="that"))


def test_a_store_of_the_first_schema_gains_the_column_and_keeps_its_tasks(url: str) -> None:
    address = parse_url(url)
    migrate(address, "0001")
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text(RUN))
        connection.execute(text(TASK), {"q": b"Q?", "a": b"A"})
    engine.dispose()
    opened = Store.open(url)
    assert seed_tasks(opened, "old") == [Task("t", "Q?", "A", "human")]
    opened.close()
    migrate(address, "0001")
    engine = create_engine(address)
    columns = {column["name"] for column in inspect(engine).get_columns("task")}
    engine.dispose()
    assert "other_references" not in columns


RUN = """INSERT INTO run (id, number, config, config_digest, environment, seed, rounds_asked,
status, at) VALUES ('old', 1, '{}', 'c', '{}', '1', 1, 'running', '2026-01-01 00:00:00+00')"""
TASK = """INSERT INTO task (run_id, id, state, made_round, position, round, origin, confidence,
question, question_raw, question_digest, reference, reference_raw) VALUES ('old', 't', 'seed', 0, 0,
0, 'human', 1.0, 'Q?', :q, 'd', 'A', :a)"""
