"""A replay over a scripted run: what trained agrees with itself, another reward does not wholly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.errors import Refusal
from flows.looks.listing import list_rollouts
from flows.looks.replay import compare, replay
from pipeline import meters
from pipeline.config import RunConfig
from pipeline.rewards.checks import Contradiction
from store import invariants, ledger
from store.questions import Filter
from store.retold import Retold, retell
from tests.flows.scripted import SMALL, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(tmp_path_factory.mktemp("replay"))
    made.go_on()
    return made


@pytest.fixture
def told(bench: Bench) -> list[Retold]:
    return retell(bench.store, bench.run)


def taught(told: list[Retold]) -> list[Retold]:
    """Those whose reference was not too doubtful to teach."""
    floor = SMALL.verifier.consensus_floor
    tasks = [one.group.task for one in told]
    sure = [task.origin != "consensus" or task.confidence >= floor for task in tasks]
    return [one for one, kept in zip(told, sure, strict=True) if kept]


def with_reward(name: str, **more: object) -> RunConfig:
    tree = SMALL.model_dump(mode="json")
    tree["reward"] |= {"name": name, **more}
    return RunConfig.model_validate(tree)


def test_the_reward_that_trained_agrees_with_itself_to_the_last_bit(told: list[Retold]) -> None:
    found = compare(told, SMALL)
    assert found.groups == len(taught(told)) > 10
    assert all(one.then == one.now for one in found.compared)
    assert (found.total.opposed, found.best, found.flipped) == (0, 1.0, 0.0)
    assert found.tau is not None
    assert found.tau.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"reward": {"name": "majority_vote", "noise": 0.3}, "objective": {"advantage": "dr_grpo"}},
        {"reward": {"name": "rank"}, "objective": {"advantage": "reinforce_pp"}},
        {"reward": {"name": "step_sum"}, "objective": {"advantage": "pure_min"}},
        {"reward": {"name": "verifree"}, "objective": {"advantage": "remax"}},
        {"reward": {"name": "rlpr", "mix": {"length": 1.0}, "mix_end": {"length": 0.0}}},
    ],
    ids=lambda tree: "+".join(str(part) for side in tree.values() for part in side.values()),
)
def test_whatever_trained_is_replayed_to_the_last_bit(tmp_path: Path, changes: dict) -> None:
    tree = SMALL.model_dump(mode="json") | {"rounds": 1}
    tree["verifier"] |= {"consensus_floor": 0.6}  # some proposals teach nobody
    for section, settings in changes.items():
        tree[section] |= settings
    bench = Bench(tmp_path, RunConfig.model_validate(tree))
    bench.go_on()
    config = bench.config
    found = compare(retell(bench.store, "run", sources=meters.judging(config)), config)
    assert found.groups > 5
    assert all(one.then == one.now for one in found.compared)
    assert (found.missing, found.total.opposed, found.flipped) == ({}, 0, 0.0)
    bench.store.close()


def test_a_reward_that_the_advantage_cannot_bear_is_refused_and_greedy_attempts_are_missed(
    bench: Bench, told: list[Retold]
) -> None:
    with pytest.raises(Contradiction, match="exactly 0 and 1"):
        replay(bench.home, "run", ["objective.advantage=psr"], json=True)
    tree = with_reward("verifree").model_dump(mode="json")
    tree["objective"]["advantage"] = "remax"
    found = compare(told, RunConfig.model_validate(tree))
    assert (found.groups, set(found.missing)) == (0, {"greedy"})


def test_what_is_read_in_haste_judges_like_what_is_read_in_full(bench: Bench) -> None:
    quick = compare(retell(bench.store, bench.run), with_reward("dro"))
    whole = compare(retell(bench.store, bench.run, texts=True), with_reward("dro"))
    assert [one.now for one in quick.compared] == [one.now for one in whole.compared]
    assert quick.flipped == whole.flipped


def test_another_reward_orders_some_pairs_otherwise(told: list[Retold]) -> None:
    found = compare(told, with_reward("dro"))
    assert found.total.opposed > 0
    assert found.tau is not None
    assert -1.0 < found.tau.value < 1.0


def test_a_group_that_a_meter_did_not_read_is_left_out_and_counted(told: list[Retold]) -> None:
    found = compare(told, with_reward("majority_vote"))
    assert (found.groups, found.missing) == (0, {"vote": len(taught(told))})


def test_the_command_tells_both_sides_as_json(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(bench.home, "run", ["reward.name=dro", "objective.advantage=rloo"], json=True)
    [answer] = json.loads(capsys.readouterr().out)
    assert (answer["trained_with"], answer["replayed_with"]) == ("nover", "dro")
    assert answer["advantage"] == "rloo"
    worst = answer["disagree_most"][0]
    assert {"rollout", "then", "now"} == set(worst["rollouts"][0])


def test_a_word_that_is_no_reward_is_refused_with_the_nearest(bench: Bench) -> None:
    with pytest.raises(Refusal) as told:
        replay(bench.home, "run", ["reward.name=novr"], json=False)
    assert "did you mean 'nover'" in " ".join(told.value.problems)


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    tree = SMALL.model_dump(mode="json") | {"verifier": {"also": ["vote", "shape"]}, "rounds": 1}
    made = Bench(tmp_path_factory.mktemp("metered"), RunConfig.model_validate(tree))
    made.go_on()
    return made


def test_what_meters_read_is_stored_listed_and_judged_anew(
    metered: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare(retell(metered.store, "run", sources=("vote",)), with_reward("majority_vote"))
    assert found.missing == {}
    assert {value for one in found.compared for value in one.now} == {0.0, 1.0}
    list_rollouts(metered.home, ("run", "last"), Filter(), readings=True, json=True)
    rows = json.loads(capsys.readouterr().out)
    assert {row["source"] for row in rows} == {"vote", "shape"}
    assert invariants.verify(metered.store, None, metered.home.root)["violations"] == []


def test_a_run_with_meters_comes_back_from_the_store_as_it_was(metered: Bench) -> None:
    [first, *_] = ledger.load_steps(metered.store, "run", 1)
    told = [e for c in first.credited if c.judged.group.role == "solver" for e in c.judged.evidence]
    assert {tuple(r.source for r in e.readings) for e in told} == {("vote", "shape")}
