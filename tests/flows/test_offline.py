"""Runs that learn from the store, over the script: whole, stopped, resumed, forked, refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows import stages
from flows.errors import Refusal
from flows.live import Live
from flows.offline import Lesson, changes_for, check_source
from flows.settings import change_config
from pipeline.config import RunConfig
from pipeline.faults import arm, armed, disarm
from pipeline.offline import OBJECTIVES
from pipeline.step import judge_again
from pipeline.study import choose
from pipeline.types import StepRecord
from store import invariants, ledger, points, questions, shelf
from store.lineage import SHOWN, Node, lineage
from tests.flows.scripted import Bench, Heard


class Pulled(RuntimeError):
    """What a test pulls out from under a run."""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a home whose run "run" climbed two rounds and was never stopped."""
    bench = Bench(tmp_path_factory.mktemp("source") / "home")
    bench.go_on()
    bench.store.close()
    return bench.folder


@pytest.fixture
def bench(source: Path, tmp_path: Path) -> Bench:
    """A copy of that home."""
    return Bench(shutil.copytree(source, tmp_path / "home"))


def learn_from(
    bench: Bench, objective: str, *changes: str, name: str = "pupil", parent: str = "run"
) -> str:
    """A run that is to learn from the run of the home, as `coclimb train` makes one."""
    lesson = Lesson(parent, 0, objective, list(changes))
    bench.config = change_config(bench.config, changes_for(bench.store, parent, lesson))
    check_source(bench.store, parent, bench.config)
    return bench.new(name, parent=(parent, 0))


def broken(bench: Bench) -> object:
    """What `verify` holds against a home."""
    return invariants.verify(bench.store, None, bench.home.root)["violations"]


def steps(bench: Bench, run: str) -> list[StepRecord]:
    return [one for number in (1, 2) for one in ledger.load_steps(bench.store, run, number)]


def pull() -> None:
    raise Pulled


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_learns_from_the_store_and_one_killed_midway_ends_in_the_same_chain(
    bench: Bench, source: Path, tmp_path: Path, objective: str
) -> None:
    changes = ("offline.least_advantage=-2.0", "rounds=1")  # the script reasons at random
    run = learn_from(bench, objective, *changes)
    bench.go_on(run)
    taught = steps(bench, run)
    assert [len(one.studied) for one in taught] == [4, 4]
    assert all(one.credited == () and one.updates["solver"].rows for one in taught)
    assert [row["id"] for row in questions.rollouts(bench.store, run)] == []
    sums = [one.versions[0].checksum for one in taught]
    assert len({*sums, points.checkpoints(bench.store, "run")[-1].versions[0].checksum}) == 3
    assert broken(bench) == []

    other = Bench(shutil.copytree(source, tmp_path / "other"))
    killed = learn_from(other, objective, *changes)

    def after_one_step() -> None:
        disarm("upd.after_commit")
        raise Pulled

    arm("upd.after_commit", after_one_step)
    with pytest.raises(Pulled):
        other.go_on(killed)
    heard = Heard()
    other.go_on(killed, progress=heard)
    assert heard.again == [1]
    assert other.chain(killed) == bench.chain(run)
    assert broken(other) == []


@pytest.mark.parametrize("point", ["upd.row", "ck.row"])
def test_a_fault_costs_nothing_that_was_committed(bench: Bench, point: str) -> None:
    run = learn_from(bench, "dpo", "rounds=1")
    with armed(point, pull), pytest.raises(Pulled):
        bench.go_on(run)
    bench.go_on(run)
    again = learn_from(bench, "dpo", name="never stopped")
    bench.go_on(again)
    assert bench.chain(run) == bench.chain(again)
    assert broken(bench) == []


def test_steps_study_slices_that_the_seed_and_the_step_alone_decide(bench: Bench) -> None:
    run = learn_from(bench, "qrpo")
    bench.go_on(run)
    names = shelf.group_names(bench.store, "run", 2, 0.9)
    told = [tuple(one.name for one in record.studied) for record in steps(bench, run)]
    assert told == [choose(names, bench.config, step) for step in (1, 2, 3, 4)]
    assert len(set(told)) == 4
    other = bench.config.model_copy(update={"seed": 9})
    assert choose(names, other, 1) != told[0]
    one_pass = [
        name for step in range(1, 1 + len(names) // 4) for name in choose(names, other, step)
    ]
    assert len(set(one_pass)) == len(one_pass)


def test_unless_the_reward_is_changed_it_is_the_one_that_was_stored(bench: Bench) -> None:
    names = shelf.group_names(bench.store, "run", 2, 0.0)
    studied = shelf.read_groups(bench.store, names)
    assert [one.name for one in studied] == names
    same = judge_again(bench.config, studied, 1)
    assert [one.rewards for one in same] == [one.judged.rewards for one in studied]
    changed = change_config(bench.config, ["reward.name=mean_probability"])
    other = judge_again(changed, studied, 1)
    assert [one.rewards for one in other] != [one.rewards for one in same]


def test_another_reward_over_the_stored_evidence_teaches_otherwise(bench: Bench) -> None:
    first = learn_from(bench, "qrpo", "rounds=1")
    bench.go_on(first)
    second = learn_from(bench, "qrpo", "reward.name=rlpr", name="other")  # equals at 0
    bench.go_on(second)
    one, two = (steps(bench, run) for run in (first, second))
    assert [step.studied for step in one] == [step.studied for step in two]
    assert [step.updates for step in one] != [step.updates for step in two]


def test_only_what_taught_somebody_then_is_studied(bench: Bench) -> None:
    trusted = shelf.group_names(bench.store, "run", 2, 0.9)
    every = shelf.group_names(bench.store, "run", 2, 0.0)
    groups = {one.name: one.judged.group for one in shelf.read_groups(bench.store, every)}
    left_out = [groups[name].task for name in set(every) - set(trusted)]
    assert {task.origin for task in left_out} == {"consensus"}
    assert all(task.confidence < 0.9 for task in left_out)
    assert all(group.role == "solver" and group.task.reference for group in groups.values())
    assert {name for name in every if groups[name].id.startswith("r01")} == {
        *shelf.group_names(bench.store, "run", 1, 0.0)
    }


def test_a_source_that_is_a_fork_gives_its_ancestors_groups_up_to_the_fork(bench: Bench) -> None:
    plain = bench.config
    bench.config = change_config(plain, ["seed=9"])
    bench.new("branch", parent=("run", 1))
    bench.go_on("branch")
    names = shelf.group_names(bench.store, "branch", 2, 0.0)
    assert {(run, group[:3]) for run, group in names} == {("run", "r01"), ("branch", "r02")}
    run = learn_from(bench, "sft", parent="branch")
    bench.go_on(run)
    assert {one.run for record in steps(bench, run) for one in record.studied} == {"run", "branch"}
    assert broken(bench) == []


def test_a_source_that_climbs_on_changes_nothing(bench: Bench) -> None:
    plain = bench.config
    learn_from(bench, "dpo", name="before")
    before = bench.config
    bench.go_on("before")
    bench.config = plain
    bench.go_on("run", work=lambda live: ledger.ask_rounds(live.store, live.lease, 3))
    bench.go_on("run")
    bench.config = before
    bench.new("after", parent=("run", 0))
    bench.go_on("after")
    assert bench.chain("after") == bench.chain("before")


def test_a_fork_of_such_a_run_goes_on_learning_from_the_same_source(bench: Bench) -> None:
    run = learn_from(bench, "qrpo", "rounds=1")
    bench.go_on(run)
    bench.config = change_config(bench.config, ["rounds=2", "offline.objective=dpo"])
    check_source(bench.store, run, bench.config)
    bench.new("second", parent=(run, 1))
    bench.go_on("second")
    assert [one.step for one in steps(bench, "second")] == [1, 2, 3, 4]
    assert all(one.run == "run" for record in steps(bench, "second") for one in record.studied)
    assert broken(bench) == []


def test_learning_begins_from_the_base_where_its_checkpoint_is_pruned(bench: Bench) -> None:
    first = learn_from(bench, "sft", "rounds=1")
    bench.go_on(first)
    shutil.rmtree(bench.home.checkpoints("run") / "round-000")
    with bench.store.writing(None) as session:
        session.connection().exec_driver_sql(
            "UPDATE checkpoint SET state = 'pruned' WHERE run_id = 'run' AND round = 0"
        )
    second = learn_from(bench, "sft", name="again")
    bench.go_on(second)
    assert bench.chain(second) == bench.chain(first)
    assert broken(bench) == []


def test_a_base_that_is_not_what_it_was_is_refused(bench: Bench) -> None:
    shutil.rmtree(bench.home.checkpoints("run") / "round-000")
    with bench.store.writing(None) as session:
        session.connection().exec_driver_sql(
            "UPDATE checkpoint SET state = 'pruned', versions = replace(versions, "
            "'checksum\": \"', 'checksum\": \"0') WHERE run_id = 'run' AND round = 0"
        )
    run = learn_from(bench, "sft")
    with pytest.raises(Refusal, match="the base gives other weights than it did then"):
        bench.go_on(run)


@pytest.mark.parametrize(
    ("statement", "broke"),
    [
        ("UPDATE step SET studied = NULL WHERE run_id = 'pupil' AND step = 1", {"I6"}),
        (
            "UPDATE step SET studied = replace(studied, '\"run\"', '\"nobody\"') "
            "WHERE run_id = 'pupil' AND step = 1",
            {"I5", "I6"},
        ),
    ],
)
def test_what_a_step_studied_cannot_change_behind_the_store(
    bench: Bench, statement: str, broke: set[str]
) -> None:
    bench.go_on(learn_from(bench, "dpo", "rounds=1"))
    with bench.store.writing(None) as session:
        session.connection().exec_driver_sql(statement)
    assert told_of("pupil", bench) == broke


def test_weights_trained_from_the_store_lead_to_what_they_studied_and_in_which_run(
    bench: Bench,
) -> None:
    run = learn_from(bench, "dpo", "rounds=1", "solver.tasks=6")
    bench.go_on(run)
    [first, _] = steps(bench, run)
    [update, *_] = lineage(bench.store, run, "solver@1").children
    assert (update.kind, update.id, update.run) == ("update", "solver@1", run)
    assert update.facts["studied"] == len(first.studied) == 6
    assert [(one.run, one.id) for one in update.children] == [
        one.name for one in first.studied[:SHOWN]
    ]
    assert {one.kind for one in update.children} == {"group"}
    tasks = [one.judged.group.task.id for one in first.studied[:SHOWN]]
    assert [(one.facts["run"], one.facts["task"]) for one in update.children] == [
        ("run", task) for task in tasks
    ]
    shallow = lineage(bench.store, run, "solver@1", depth=2).children[0]
    assert (shallow.facts["studied"], shallow.children) == (6, ())


def test_weights_trained_on_attempts_of_their_own_studied_nothing(bench: Bench) -> None:
    def updates(node: Node) -> list[Node]:
        own = [node] if node.kind == "update" else []
        return [*own, *(one for child in node.children for one in updates(child))]

    found = updates(lineage(bench.store, "run", "solver@4"))
    assert len(found) == 4
    assert all("studied" not in one.facts and one.children == () for one in found)


def test_evidence_that_changed_is_found_at_who_measured_it_and_at_who_studied_it(
    bench: Bench,
) -> None:
    run = learn_from(bench, "dpo", "rounds=1")
    bench.go_on(run)
    [rollout, *_] = steps(bench, run)[0].studied[0].judged.group.rollouts
    with bench.store.writing(None) as session:
        session.connection().exec_driver_sql(
            f"UPDATE judgement SET reward = reward + 1 WHERE rollout_id = '{rollout.id}'"
        )
    assert told_of("run", bench) == told_of(run, bench) == {"I6"}


def told_of(run: str, bench: Bench) -> set[object]:
    told = invariants.verify(bench.store, run)["violations"]
    assert isinstance(told, list)
    return {one["invariant"] for one in told if isinstance(one, dict)}


def test_a_run_without_attempts_cannot_be_learned_from(bench: Bench) -> None:
    pupil = learn_from(bench, "dpo", "rounds=1")
    bench.go_on(pupil)
    with pytest.raises(Refusal, match=r"run pupil holds no solver's groups[\s\S]*was itself"):
        learn_from(bench, "sft", name="grandchild", parent=pupil)


def test_a_run_without_a_committed_round_cannot_be_learned_from(bench: Bench) -> None:
    def begun(live: Live) -> None:
        for place in stages.to_do(live):
            if place == (1, "propose"):
                return
            stages.take_stage(live, *place)

    bench.new("young")
    bench.go_on("young", work=begun)
    with pytest.raises(Refusal, match="run young has 0 committed rounds"):
        learn_from(bench, "sft", parent="young")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["generator.kind=evolve"], "training from the store proposes nothing"),
        (["offline.upto=7"], "offline.upto is 7, and run run has 2 committed rounds"),
        (["solver.frozen=true"], "nothing would train"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_its_remedy(
    bench: Bench, changes: list[str], told: str
) -> None:
    with pytest.raises(Refusal) as caught:
        learn_from(bench, "qrpo", *changes)
    assert told in caught.value.told()


def test_no_objective_and_an_unknown_one_are_refused(bench: Bench) -> None:
    with pytest.raises(Refusal, match="objective none learns nothing"):
        learn_from(bench, "none")
    with pytest.raises(Refusal, match=r"offline\.objective: expected .*did you mean 'qrpo'"):
        learn_from(bench, "qrp")


def test_another_runs_attempts_are_refused_for_what_they_may_hold(bench: Bench) -> None:
    bench.new("stranger")
    bench.go_on("stranger")
    lesson = Lesson("stranger", 0, "sft", [])
    config = change_config(bench.config, changes_for(bench.store, "stranger", lesson))
    with pytest.raises(Refusal, match="from which run run does not stem"):
        check_source(bench.store, "run", config)


def test_the_digest_of_a_configuration_is_free_of_the_sources_id() -> None:
    told = {"objective": "qrpo", "upto": 1}
    made = [
        RunConfig.model_validate(
            {"generator": {"kind": "none"}, "offline": {**told, "source": name, "beta": beta}}
        )
        for name, beta in [("a", 0.1), ("b", 0.1), ("a", 0.2)]
    ]
    assert made[0].digest() == made[1].digest() != made[2].digest()
