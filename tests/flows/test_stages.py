"""Whole runs over the script: every stage, every place to stop, the same chain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows import stages
from flows.assemble import Parts
from flows.errors import Refusal
from flows.live import Live, Place, come_alive
from flows.owning import Interrupted, Owning
from flows.restore import Diverged
from pipeline.config import RunConfig, TagsConfig
from pipeline.faults import POINTS, arm, armed, disarm
from store import invariants, ledger, points, questions
from store.errors import Owned
from tests.flows.scripted import SMALL, Bench, Heard, scripted_parts


class Pulled(RuntimeError):
    """What a test pulls out from under a run."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run of two rounds that was never stopped."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.go_on()
    return bench


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run of one round and one step, never stopped."""
    config = SMALL.model_copy(update={"rounds": 1, "steps": 1})
    bench = Bench(tmp_path_factory.mktemp("short"), config)
    bench.go_on()
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def broken(bench: Bench) -> list[object]:
    """What `verify` holds against a home."""
    told = invariants.verify(bench.store, None, bench.home.root)
    violations = told["violations"]
    assert isinstance(violations, list)
    return [*violations]


def test_two_rounds_leave_every_stage_every_axis_and_no_violation(whole: Bench) -> None:
    assert len(whole.chain()) == 2 + 5 + 5
    rounds = questions.rounds(whole.store, whole.run)
    assert [row["round"] for row in rounds] == [0, 1, 2]
    assert all(row["solver"] and row["generator"] for row in rounds)
    (run,) = questions.runs(whole.store)
    assert (run["status"], run["rounds_done"], run["owner"]) == ("done", 2, None)
    assert broken(whole) == []


def test_the_weights_moved_and_the_proxy_followed(whole: Bench) -> None:
    newest, *_ = points.checkpoints(whole.store, whole.run)
    first = points.checkpoints(whole.store, whole.run)[-1]
    assert {v.id for v in newest.versions} == {"solver@4", "proxy@4"}
    sums = {v.line: v.checksum for v in newest.versions}
    assert sums["solver"] == sums["proxy"]
    assert sums["solver"] not in {v.checksum for v in first.versions}


def test_equal_configurations_give_equal_chains(whole: Bench, bench: Bench) -> None:
    bench.go_on()
    assert bench.chain() == whole.chain()


STOPS = [(r, s) for r in (0, 1, 2) for s in stages.STAGES if r or s in ("checkpoint", "probe")]


@pytest.mark.parametrize("place", [STOPS[n] for n in (0, 3, 4, 5, 7)])
def test_a_run_stopped_after_a_stage_ends_in_the_same_chain(
    whole: Bench, bench: Bench, place: tuple[int, str]
) -> None:
    def until(live: Live) -> None:
        for one in stages.to_do(live):
            stages.take_stage(live, *one)
            if one == place:
                raise Pulled

    with pytest.raises(Pulled):
        bench.go_on(work=until)
    bench.go_on()
    assert bench.chain() == whole.chain()
    assert broken(bench) == []


PASSED = sorted(
    POINTS
    - {"lease.renew_late", "lease.takeover", "run.before_row", "run.after_row", "resume.selected"}
    - {name for name in POINTS if name.startswith(("mig.", "gc.", "lease.", "work.", "ck.upload_"))}
)


@pytest.mark.parametrize("point", PASSED)
def test_a_fault_at_any_point_costs_nothing_that_was_committed(
    short: Bench, tmp_path: Path, point: str
) -> None:
    bench = Bench(tmp_path, short.config)

    def pull() -> None:
        raise Pulled

    with armed(point, pull), pytest.raises(Pulled):
        bench.go_on()
    (run,) = questions.runs(bench.store)
    assert run["status"] == "failed"
    assert "Pulled" in str(run["reason"])
    bench.go_on()
    assert bench.chain() == short.chain()
    assert broken(bench) == []


def test_a_resume_killed_after_choosing_its_checkpoint_chooses_the_same_again(
    short: Bench, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, short.config)

    def pull() -> None:
        raise Pulled

    with armed("upd.after_commit", pull), pytest.raises(Pulled):
        bench.go_on()
    with armed("resume.selected", pull), pytest.raises(Pulled):
        bench.go_on()
    bench.go_on()
    assert bench.chain() == short.chain()
    assert broken(bench) == []


def test_steps_that_were_committed_are_taken_again_without_sampling(bench: Bench) -> None:
    def after_one_step() -> None:
        disarm("upd.after_commit")
        raise Pulled

    arm("upd.after_commit", after_one_step)
    with pytest.raises(Pulled):
        bench.go_on()
    heard = Heard()
    bench.go_on(progress=heard)
    assert heard.again == [1]
    assert heard.stages[:2] == [(1, "replay"), (1, "climb")]


def test_a_step_that_comes_out_otherwise_stops_the_run(bench: Bench) -> None:
    def first_step(live: Live) -> None:
        with armed("upd.after_commit", interrupt):
            stages.run_stages(live)

    with pytest.raises(Interrupted):
        bench.go_on(work=first_step)
    bench.config = SMALL
    with bench.store.writing(None) as session:
        session.connection().exec_driver_sql("UPDATE learner_update SET loss = loss + 1")
    with pytest.raises(Diverged, match="step 1 of round 1 came out otherwise"):
        bench.go_on()


def test_a_step_without_a_well_formed_attempt_says_so_with_the_remedy(tmp_path: Path) -> None:
    tags = TagsConfig(reasoning="reason")  # which the script does not write
    bench = Bench(tmp_path, SMALL.model_copy(update={"rounds": 1, "steps": 1, "tags": tags}))
    heard = Heard()
    bench.go_on(progress=heard)
    [told] = [line for line in heard.said if "well formed" in line]
    assert re.search(r"step 1: none of the 12 attempts .*\d+ are missing_reasoning", told)
    assert "rollouts run`" in told
    assert "tags.reasoning" in told


def test_a_step_with_well_formed_attempts_says_nothing(bench: Bench) -> None:
    heard = Heard()
    bench.go_on(progress=heard)
    assert heard.said == []


def interrupt() -> None:
    raise Interrupted("stopped by Ctrl-C")


def test_ctrl_c_leaves_the_run_stopped_with_a_reason_and_free(bench: Bench) -> None:
    with armed("roll.row", interrupt), pytest.raises(Interrupted):
        bench.go_on()
    (run,) = questions.runs(bench.store)
    assert (run["status"], run["reason"]) == ("stopped", "stopped by Ctrl-C")
    assert run["owner"] is None
    assert broken(bench) == []


def test_a_run_has_one_owner(bench: Bench) -> None:
    def second(live: Live) -> None:
        bench.go_on()

    with pytest.raises(Owned, match="belongs to"):
        bench.go_on(work=second)


def flip_a_byte(bench: Bench, round: int) -> Path:
    file = bench.home.checkpoints(bench.run) / f"round-{round:03d}" / "proxy"
    file = file / "proxy.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    return file


def test_a_flipped_byte_is_refused_and_costs_no_round(whole: Bench, bench: Bench) -> None:
    def one_round(live: Live) -> None:
        for place in stages.to_do(live):
            if place[0] == 2:
                return
            stages.take_stage(live, *place)

    bench.go_on(work=one_round)
    file = flip_a_byte(bench, 1)
    with pytest.raises(Refusal, match=r"its bytes changed[\s\S]*--older") as refused:
        bench.go_on()
    assert str(file) in str(refused.value)
    heard = Heard()
    bench.go_on(older=True, progress=heard)
    assert heard.again == [1, 2]
    assert "went back to the checkpoint of round 0" in heard.said[0]
    assert bench.chain() == whole.chain()


def test_other_rows_than_at_the_start_are_refused(bench: Bench) -> None:
    bench.go_on(work=lambda live: None)

    def other(live: Live) -> None:
        live.parts.seeds.pop()
        stages.begin(live)

    with pytest.raises(Refusal, match="gives other seed tasks"):
        bench.go_on(work=other)


def test_a_fork_whose_probes_would_be_tasks_to_train_on_is_refused(whole: Bench) -> None:
    whole.config = SMALL.model_copy(update={"rounds": 2})
    whole.new("leaky", parent=(whole.run, 1))

    def other(live: Live) -> None:
        live.parts.probe_questions.append(live.parts.seeds[0].question.upper())
        stages.begin(live)

    with pytest.raises(Refusal, match="1 tasks to train on stand among its probes now"):
        whole.go_on("leaky", work=other)


def test_a_fork_climbs_on_from_its_parents_checkpoint(whole: Bench) -> None:
    whole.config = SMALL.model_copy(update={"rounds": 2, "seed": 9})
    whole.new("branch", parent=(whole.run, 1))
    live = whole.go_on("branch")
    assert live.parts.learner.versions()["solver"].id == "solver@4"
    rows = questions.rounds(whole.store, "branch")
    assert [row["round"] for row in rows] == [0, 1, 2]
    first, parents = whole.chain("branch"), whole.chain()
    assert first[:7] == parents[:7]
    assert first[7:] != parents[7:]
    assert broken(whole) == []


def test_old_checkpoints_go_and_the_best_stays(tmp_path: Path) -> None:
    keep = SMALL.checkpoint.model_copy(update={"keep": 2})
    config = SMALL.model_copy(update={"rounds": 5, "steps": 1, "checkpoint": keep})
    bench = Bench(tmp_path, config)
    bench.go_on()
    kept = {path.name for path in bench.home.checkpoints(bench.run).iterdir()}
    assert {"round-004", "round-005"} <= kept
    assert len(kept) <= 3
    assert broken(bench) == []


def test_more_rounds_can_be_asked_for_later(bench: Bench) -> None:
    bench.go_on()
    bench.go_on(work=lambda live: ledger.ask_rounds(live.store, live.lease, 3))
    live = bench.go_on()
    assert live.rounds == 3
    (run,) = questions.runs(bench.store)
    assert (run["status"], run["rounds_done"]) == ("done", 3)


def test_what_was_done_to_a_source_is_said_once_when_a_run_begins(bench: Bench) -> None:
    def assembled(config: RunConfig) -> Parts:
        return replace(scripted_parts(config), told=["merged: 2 rows"])

    heard = Heard()
    with Owning(bench.store, bench.run) as lease:
        place = Place(bench.store, bench.home, bench.run)
        live = come_alive(place, lease, heard, assembled)
        stages.begin(live)
        stages.begin(live)  # as `resume` would
    assert heard.said == ["merged: 2 rows"]
