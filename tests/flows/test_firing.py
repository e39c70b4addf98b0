"""Firings of a deployed run, without Prefect: parts of one chain, one owner, one refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from flows import stages
from flows.assemble import Parts
from flows.deployment import firing
from flows.deployment.firing import Firing, climb_some, find_or_begin, next_open, take_one
from flows.errors import Refusal
from flows.live import Live, Place
from flows.owning import Owning
from pipeline.config import RunConfig, recorded
from store import ledger, questions
from store.errors import Owned
from store.leases import acquire_lease
from tests.flows.scripted import SMALL, Bench, Heard, scripted_parts


@contextmanager
def bare(live: Live) -> Iterator[Callable[[int, str], None]]:
    """Stages taken without Prefect."""
    yield lambda round, stage: stages.take_stage(live, round, stage)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every way through the two rounds must end in."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.go_on()
    return bench.chain()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home without the run that is fired at."""
    bench = Bench(tmp_path)
    yield Place(bench.store, bench.home, "")
    bench.store.close()


def fire(place: Place, asked: Firing, heard: Heard | None = None) -> str:
    """One firing, from finding the run to letting it go."""
    here = find_or_begin(place, asked)
    return climb_some(here, asked, heard or Heard(), bare, scripted_parts)


def chain_of(place: Place, run: str) -> list[str]:
    at = [(r, s) for r in range(3) for s in ("propose", "climb", "sync", "checkpoint", "probe")]
    found = [ledger.stage_done(place.store, run, *stage) for stage in at]
    return [digest for digest in found if digest]


def row_of(place: Place, name: str) -> questions.Answer:
    return next(row for row in questions.runs(place.store) if row["name"] == name)


def test_a_round_a_firing_ends_in_the_chain_of_the_whole_run(
    place: Place, chain: list[str]
) -> None:
    asked = Firing("night", SMALL, rounds_more=1)
    told = [fire(place, asked) for _ in range(2)]
    run = str(row_of(place, "night")["id"])
    assert told == [f"run {run} has {n} of 2 rounds committed" for n in (1, 2)]
    assert chain_of(place, run) == chain
    assert row_of(place, "night")["status"] == "done"


def test_between_firings_a_run_says_that_it_waits(place: Place) -> None:
    fire(place, Firing("night", SMALL, rounds_more=1))
    row = row_of(place, "night")
    assert (row["status"], row["owner"]) == ("stopped", None)
    assert row["reason"] == f"run {row['id']} has 1 of 2 rounds committed; the next firing goes on"


def test_a_firing_at_a_run_that_is_done_builds_nothing(place: Place) -> None:
    fire(place, Firing("night", SMALL))

    def refuse(config: RunConfig) -> None:
        raise AssertionError("parts were built")

    asked = Firing("night", SMALL, rounds_more=1)
    told = climb_some(find_or_begin(place, asked), asked, Heard(), bare, refuse)  # type: ignore[arg-type]
    assert told.endswith("has 2 of 2 rounds committed")


@contextmanager
def killed_at_the_end(live: Live) -> Iterator[Callable[[int, str], None]]:
    """Stages taken until none is left; then the process is gone, and says nothing more."""
    yield lambda round, stage: stages.take_stage(live, round, stage)
    gone = text("UPDATE lease SET expires = 0, host = 'elsewhere'")
    live.store.write(None, lambda session: session.execute(gone))
    acquire_lease(live.store, live.run, "whoever looks", 0)
    raise SystemExit


@pytest.mark.parametrize("by_stage", [False, True])
def test_a_run_killed_before_its_last_word_is_closed_by_the_next_firing_without_its_parts(
    place: Place, by_stage: bool
) -> None:
    work = SMALL.work.model_copy(update={"queue": True, "shard": 2})
    asked = Firing("night", SMALL.model_copy(update={"rounds": 1, "work": work}))
    here = find_or_begin(place, asked)
    with pytest.raises(SystemExit):
        climb_some(here, asked, Heard(), killed_at_the_end, scripted_parts)
    folder = place.home.root / "weights"
    assert row_of(place, "night")["status"] == "running"
    assert list(folder.rglob("*.safetensors")) != []

    def refuse(config: RunConfig) -> Parts:
        raise AssertionError("parts were built")

    if by_stage:
        with pytest.raises(Refusal, match="has no open stage"):
            take_one(here, asked, "propose", Heard(), bare, refuse)
    else:
        told = climb_some(here, asked, Heard(), bare, refuse)
        assert told.endswith("has 1 of 1 rounds committed")
    row = row_of(place, "night")
    assert (row["status"], row["reason"], row["owner"]) == ("done", "1 rounds committed", None)
    assert list(folder.rglob("*.safetensors")) == []


def test_a_firing_may_ask_for_more_rounds_than_the_run_began_with(place: Place) -> None:
    fire(place, Firing("night", SMALL))
    assert fire(place, Firing("night", SMALL, rounds=3)).endswith("3 of 3 rounds committed")


def test_stage_by_stage_in_a_process_each_gives_the_same_chain(
    place: Place, chain: list[str]
) -> None:
    asked = Firing("steps", SMALL)
    here = find_or_begin(place, asked)
    taken = []
    while (following := next_open(here, 2)) is not None:
        round = take_one(here, asked, following[1], Heard(), bare, scripted_parts)
        taken.append((round, following[1]))
    assert taken[:3] == [(0, "checkpoint"), (0, "probe"), (1, "propose")]
    assert len(taken) == 12
    assert chain_of(place, here.run) == chain
    assert row_of(place, "steps")["status"] == "done"


def test_a_stage_that_is_not_next_is_refused_in_one_line(place: Place) -> None:
    asked = Firing("steps", SMALL, rounds_more=1)
    fire(place, asked)
    here = find_or_begin(place, asked)
    with pytest.raises(Refusal, match="propose of round 2 is next, not climb"):
        take_one(here, asked, "climb", Heard(), bare, scripted_parts)
    fire(place, replace(asked, rounds_more=None))
    with pytest.raises(Refusal, match="has no open stage"):
        take_one(here, asked, "propose", Heard(), bare, scripted_parts)


def test_a_firing_at_an_owned_run_is_refused_with_its_owners_name(place: Place) -> None:
    asked = Firing("night", SMALL)
    here = find_or_begin(place, asked)
    with Owning(here.store, here.run) as lease, pytest.raises(Owned, match=lease.owner):
        fire(place, asked)
    assert fire(place, asked).endswith("2 of 2 rounds committed")


def test_two_firings_begin_one_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Firing("night", SMALL)
    first = find_or_begin(place, asked)
    monkeypatch.setattr(firing, "run_named", lambda store, name: None)  # before the row was there
    assert find_or_begin(place, asked) == first
    assert [row["name"] for row in questions.runs(place.store)].count("night") == 1


def test_other_settings_are_refused_by_their_keys(place: Place) -> None:
    find_or_begin(place, Firing("night", SMALL))
    other = SMALL.model_copy(update={"seed": 7, "rounds": 9})
    with pytest.raises(Refusal) as refused:
        find_or_begin(place, Firing("night", other))
    assert refused.value.problems == ("seed differs",)


def test_settings_of_place_follow_the_deployment_and_leave_the_digest(
    place: Place, chain: list[str]
) -> None:
    fire(place, Firing("night", SMALL, rounds_more=1))
    checkpoint = SMALL.checkpoint.model_copy(update={"keep": 3})
    engine = SMALL.engine.model_copy(update={"memory": 0.7})
    moved = SMALL.model_copy(update={"engine": engine, "checkpoint": checkpoint})
    fire(place, Firing("night", moved))
    run = str(row_of(place, "night")["id"])
    kept = recorded(str(questions.run_facts(place.store, run)["config"]))
    assert kept.engine.memory == 0.7
    assert kept.digest() == SMALL.digest()
    assert chain_of(place, run) == chain
