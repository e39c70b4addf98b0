from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from store_story import STEPS, Writer, new_run, tell, versions

from pipeline.files.checkpoint import MARKER, write_checkpoint
from store.database import Store
from store.errors import Unknown
from store.invariants import verify
from store.leases import acquire_lease
from store.points import Point, record_checkpoint

# what was changed behind the store's back, and the invariants that must notice
DAMAGE = {
    "UPDATE judgement SET reward = reward + 1e-12 WHERE rollout_id = 'r01-s0001-n0-g1'": {"I6"},
    "UPDATE rollout SET version = 'solver@77' WHERE id = 'r01-s0001-n0-g1'": {"I5", "I6"},
    "UPDATE task SET confidence = 0.5 WHERE id = 'r02-p000-g1' AND state = 'admitted'": {"I6"},
    "UPDATE task SET confidence = 0.5 WHERE id = 'seed-3'": {"I6"},
    "UPDATE probe SET value = value + 0.01 WHERE round = 1 AND slice = 'named'": {"I6"},
    "UPDATE truth SET told_by = 'nobody'": {"I6"},
    "UPDATE pool SET position = 9 WHERE id = 'pool-0'": {"I6"},
    "UPDATE learner_update SET loss = 0.5 WHERE step = 2": {"I6"},
    "UPDATE sync SET alpha = 0.5 WHERE step = 2": {"I6"},
    "UPDATE stage SET digest = 'x' WHERE round = 1 AND stage = 'climb'": {"I6"},
    "UPDATE stage SET content = 'x' WHERE round = 2 AND stage = 'propose'": {"I6"},
    "UPDATE checkpoint SET versions = '[]' WHERE round = 2": {"I6"},
    "UPDATE version SET checksum = 'x', parents = '[\"gone\"]' WHERE id = 'solver@3'": {"I5", "I6"},
    "DELETE FROM stage WHERE round = 2 AND stage = 'sync'": {"I1", "I6"},
    "UPDATE stage SET sequence = 99 WHERE round = 1 AND stage = 'propose'": {"I1", "I6", "I9"},
    "DELETE FROM judgement WHERE rollout_id = 'r01-s0001-n0-g0'": {"I6", "I13"},
    "DELETE FROM evidence WHERE rollout_id = 'r01-s0001-n0-g0'": {"I6", "I13"},
    "DELETE FROM proposal WHERE rollout_id = 'r01-p000-g0' AND phase = 'judged'": {"I6", "I13"},
    "DELETE FROM credit WHERE group_id = 'r01-s0001-n0'": {"I3", "I6", "I13"},
    "DELETE FROM proposed WHERE round = 1": {"I3", "I6"},
    "UPDATE step SET epoch = 7 WHERE step = 1": {"I7"},
    "UPDATE lease SET epoch = 0": {"I7"},
    "UPDATE evidence SET status = 'score_error' WHERE rollout_id = 'r01-s0001-n0-g1'": {"I6", "I8"},
    "UPDATE probe SET low = 9e999 WHERE round = 1 AND slice = 'named'": {"I6", "I8"},
    "UPDATE task SET parent_id = 'gone' WHERE id = 'r01-p000-g1'": {"I5", "I6"},
    "UPDATE run SET rounds_asked = 3": {"I12"},
    "DELETE FROM stop": {"I12"},
}


def broken(store: Store, checkpoints: Path | None = None) -> set[object]:
    found = verify(store, None, checkpoints)["violations"]
    assert isinstance(found, list)
    for one in found:
        assert isinstance(one, dict)
        assert one["place"]
        assert one["found"]
    return {one["invariant"] for one in found if isinstance(one, dict)}


def test_a_whole_run_breaks_nothing(told: Store) -> None:
    tell(told, "b")
    assert verify(told) == {"checked": 27, "violations": []}
    assert verify(told, "runa")["checked"] == 14


@pytest.mark.parametrize("statement", DAMAGE)
def test_a_row_changed_behind_the_store_is_found(told: Store, statement: str) -> None:
    infinite = statement if told.sqlite else statement.replace("9e999", "'Infinity'")
    with told.writing(None) as session:
        session.connection().exec_driver_sql(infinite)
    assert broken(told) == DAMAGE[statement]


def test_a_child_row_without_its_parent_is_found(told: Store) -> None:
    unchecked = "PRAGMA foreign_keys = OFF" if told.sqlite else UNCHECKED
    with told._engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        connection.rollback()
        driver.execute(unchecked)
        driver.execute("DELETE FROM rollout WHERE id = 'r01-s0001-n0-g0'")
        driver.commit()
    assert broken(told) >= {"I5", "I13"}


UNCHECKED = "SET LOCAL session_replication_role = replica"  # as a dump is restored


@pytest.mark.postgres
@pytest.mark.parametrize("told", ["postgres"], indirect=True)  # SQLite makes NULL of a NaN
def test_a_figure_that_is_no_number_is_found_on_postgresql_too(told: Store) -> None:
    with told.writing(None) as session:
        session.execute(text("UPDATE judgement SET reward = 'NaN' WHERE seat = 0"))
        session.execute(text("UPDATE probe SET low = '-Infinity' WHERE round = 1"))
    assert broken(told) == {"I6", "I8"}


def test_a_run_that_is_not_there_cannot_be_verified(store: Store) -> None:
    with pytest.raises(Unknown):
        verify(store, "nothing")


class Weights:
    """A part with one file."""

    def save(self, folder: Path) -> None:
        (folder / "w.bin").write_bytes(b"12345678")

    def restore(self, folder: Path) -> None:
        assert (folder / "w.bin").read_bytes() == b"12345678"


def test_checkpoints_are_hashed_again_and_debris_is_named(store: Store, tmp_path: Path) -> None:
    home = tmp_path / "checkpoints"
    run = new_run(store, rounds=9)
    lease = acquire_lease(store, run, "teller", 0)
    made = write_checkpoint(home / run, "round-000", {"policy": Weights()}, {"round": 0})
    point = Point(run, 0, f"{run}/round-000", made.manifest_digest, versions(0))
    record_checkpoint(store, lease, point)
    assert broken(store, home) == set()
    (home / run / ".tmp-round-001-abcd").mkdir()
    (home / run / "round-007").mkdir()
    (home / run / "round-007" / MARKER).write_bytes(b"")
    (home / run / "round-000" / "policy" / "w.bin").write_bytes(b"12345679")
    answer = verify(store, run, home)
    assert isinstance(answer["violations"], list)
    told = sorted(f"{one['invariant']} {one['found']}" for one in answer["violations"])  # type: ignore[index,call-overload]
    assert len(told) == 3
    assert told[0] == "I11 a temporary folder was left"
    assert told[1] == "I11 no row names this folder"
    assert told[2].startswith("I4 checkpoint refused: ")
    assert "its bytes changed" in told[2]
    assert "restore an older checkpoint" in told[2]


def test_an_unfinished_run_breaks_nothing_at_any_moment(store: Store) -> None:
    run = new_run(store, rounds=2)
    lease = acquire_lease(store, run, "teller", 600)
    acts = Writer(store, lease).acts((0, 1))
    for number, act in enumerate(acts):
        act()
        if number % 3 == 0:
            assert verify(store, run)["violations"] == []
    assert len(acts) == 2 * 5 + 2 + 5 + STEPS
