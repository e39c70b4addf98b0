"""Calls that are cut into items: the same answers in the same order, whoever works them out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.engine import queued as module
from pipeline.engine import renewing as module_of_renewing
from pipeline.engine.local import LocalEngine
from pipeline.engine.messages import (
    answer,
    confidences_of,
    sample_item,
    samples_of,
    score_item,
    scores_of,
)
from pipeline.engine.queued import Outlet, Post, Queued
from pipeline.engine.renewing import renewing
from pipeline.engine.scripted import ScriptedEngine
from pipeline.engine.sharded import Sharded, shards
from pipeline.files.checkpoint import TEMPORARY
from pipeline.files.published import Format, Published, fetch
from pipeline.files.shared import BadShared, SharedFolder
from pipeline.items import ItemFailed, WeightsFile
from pipeline.models.policy import copy_weights, merged_state, replica
from pipeline.ports import SampleRequest, ScoreRequest
from tests.pipeline.queues import Hand, Memory
from tests.tiny import tiny_model

PLAIN = Format(torch.float32)
PROMPTS = [tuple(range(2 + n, 9 + 2 * n)) for n in range(5)]
ASKED = [SampleRequest(prompt, (7, 8, 9)) for prompt in PROMPTS]
SCORED = [ScoreRequest(prompt, ((), (5, 6)), (((3, 4),), ((3, 4), (9,)))) for prompt in PROMPTS]


def local(dtype: torch.dtype = torch.float32, seed: int = 0) -> LocalEngine:
    model = replica(tiny_model(seed), dtype, "cpu")
    return LocalEngine(model, eos_ids=frozenset({1}), pad_id=0, version="solver@0")


def told(engine: object) -> tuple[object, object, object]:
    """Everything an engine can be asked, asked."""
    assert isinstance(engine, LocalEngine | Sharded | Queued)
    sampled = engine.sample(ASKED, max_tokens=6, temperature=1.0)
    return sampled, engine.score(SCORED), engine.confide(SCORED)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def outlet(tmp_path: Path, memory: Memory) -> Iterator[Outlet]:
    made = Outlet()
    made.open(post(tmp_path, memory))
    yield made
    made.close()


def post(folder: Path, queue: Memory, say: Callable[[str], None] = lambda text: None) -> Post:
    shared = SharedFolder(str(folder / "shared"))
    return Post(queue, Published(shared, "run", folder / "scratch"), 60.0, say)


def asker(
    outlet: Outlet, *, helps: bool = True, groups: int = 2, dtype: torch.dtype = torch.float32
) -> Queued:
    made = Queued("solver", outlet, local(dtype) if helps else None, Format(dtype), groups)
    made.load(merged_state(tiny_model()), "solver@0")
    return made


def test_requests_are_cut_in_order_and_the_rest_comes_last() -> None:
    assert [list(part) for part in shards(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [list(part) for part in shards(range(5), 0)] == [[0, 1, 2, 3, 4]]
    assert list(shards((), 2)) == list(shards((), 0)) == []


@pytest.mark.parametrize("groups", [1, 2, 5, 9])
def test_a_sharded_engine_answers_as_its_inner_engine_does_shard_by_shard(groups: int) -> None:
    inner = local()
    asked, scored = list(shards(ASKED, groups)), list(shards(SCORED, groups))
    by_hand = (
        [s for part in asked for s in inner.sample(part, max_tokens=6, temperature=1.0)],
        [s for part in scored for s in inner.score(part)],
        [s for part in scored for s in inner.confide(part)],
    )
    assert told(Sharded(inner, groups)) == by_hand


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_queued_engine_answers_bit_for_bit_as_a_sharded_one(
    outlet: Outlet, dtype: torch.dtype
) -> None:
    assert told(asker(outlet, dtype=dtype)) == told(Sharded(local(dtype), 2))


def test_other_hands_answer_in_the_order_asked_whichever_ends_first(
    outlet: Outlet, memory: Memory
) -> None:
    expected = told(Sharded(local(), 1))
    with Hand(memory, local()), Hand(memory, local()), Hand(memory, local()):
        assert told(asker(outlet, helps=False, groups=1)) == expected
    assert len(memory.claims) == 15
    assert set(memory.claims.values()) == {1}


def test_equal_requests_of_one_call_are_one_item(outlet: Outlet, memory: Memory) -> None:
    engine = asker(outlet, groups=1)
    one, two = engine.score([SCORED[0], SCORED[0]])
    assert one == two
    assert len(memory.items) == 1


def test_a_call_of_nothing_is_no_item(outlet: Outlet, memory: Memory) -> None:
    assert asker(outlet).score([]) == []
    assert memory.items == {}


def test_a_call_asked_again_after_a_kill_finds_what_was_answered(
    outlet: Outlet, memory: Memory
) -> None:
    engine = asker(outlet, groups=1)
    weights = engine._published()
    memory.put([score_item(weights, "score", part) for part in shards(SCORED, 1)])
    with Hand(memory, local(), most=3) as before:
        before.join()
    assert engine.score(SCORED) == Sharded(local(), 1).score(SCORED)
    assert len(memory.items) == 5
    assert set(memory.claims.values()) == {1}


def test_an_item_given_up_by_workers_is_raised(outlet: Outlet, memory: Memory) -> None:
    engine = asker(outlet, helps=False)
    weights = engine._published()
    memory.failed.add(score_item(weights, "score", SCORED[:2]).id)
    with pytest.raises(ItemFailed, match="given up"):
        engine.score(SCORED)


def test_an_engine_asked_before_its_run_is_alive_answers_nothing() -> None:
    engine = asker(Outlet())
    with pytest.raises(RuntimeError, match="not alive"):
        engine.score(SCORED)


def test_new_weights_are_published_once_and_only_when_something_is_asked(
    outlet: Outlet, tmp_path: Path
) -> None:
    engine, shared = asker(outlet), SharedFolder(str(tmp_path / "shared"))
    other = merged_state(tiny_model(1))
    engine.load(other, "solver@1")
    assert shared.names() == []
    engine.score(SCORED)
    engine.score(SCORED[:1])
    [name] = shared.names("weights/run")
    assert name.startswith("weights/run/solver@1-")
    assert engine.version == "solver@1"
    assert not list((tmp_path / "scratch").iterdir())


def test_weights_written_after_they_were_handed_over_are_not_published(
    outlet: Outlet, memory: Memory
) -> None:
    model = tiny_model()
    engine = Queued("solver", outlet, None, PLAIN, 0)
    engine.load(merged_state(model), "solver@0")
    with torch.no_grad():
        next(model.parameters()).zero_()
    with Hand(memory, local()):
        assert engine.score(SCORED) == local().score(SCORED)
    assert engine._published().sha256 == asker(outlet)._published().sha256


def test_published_weights_in_another_format_are_those_the_engine_would_hold(
    tmp_path: Path,
) -> None:
    shared, state = SharedFolder(str(tmp_path)), merged_state(tiny_model())
    form = Format(torch.bfloat16)
    file = Published(shared, "run", tmp_path / "scratch").put(form.rounded(state), "solver@3")
    there = replica(tiny_model(1), torch.bfloat16, "cpu")
    copy_weights(there, fetch(shared, file, tmp_path / "scratch" / "w"))
    held = merged_state(replica(tiny_model(), torch.bfloat16, "cpu"))
    assert all(torch.equal(held[name], weight) for name, weight in merged_state(there).items())


def test_buffers_keep_their_format() -> None:
    state = {"weight": torch.ones(2), "steps": torch.ones(2) / 3}
    rounded = Format(torch.bfloat16, frozenset({"steps"})).rounded(state)
    assert rounded["weight"].dtype == torch.bfloat16
    assert torch.equal(rounded["steps"], state["steps"])


def test_weights_that_are_not_what_their_digest_names_are_refused(tmp_path: Path) -> None:
    shared = SharedFolder(str(tmp_path))
    file = Published(shared, "run", tmp_path / "scratch").put(
        merged_state(tiny_model()), "solver@0"
    )
    place = tmp_path / file.name
    data = bytearray(place.read_bytes())
    data[-3] ^= 1
    place.write_bytes(bytes(data))
    to = tmp_path / "scratch" / "w"
    with pytest.raises(BadShared, match="SHA-256"):
        fetch(shared, file, to)
    place.unlink()
    with pytest.raises(BadShared, match="missing"):
        fetch(shared, file, to)
    assert not to.exists()


def test_settling_keeps_the_newest_two_weights_of_a_line(outlet: Outlet, tmp_path: Path) -> None:
    engine, state = asker(outlet), merged_state(tiny_model())
    for step in (1, 2, 9, 10):
        engine.load(state, f"solver@{step}")
        engine.score(SCORED)
        outlet.settle()
    left = SharedFolder(str(tmp_path / "shared")).names("weights/run")
    assert [name.split("/")[-1].split("-")[0] for name in left] == ["solver@10", "solver@9"]


def test_weights_that_are_asked_under_now_stay_however_old(outlet: Outlet, tmp_path: Path) -> None:
    engine, state = asker(outlet), merged_state(tiny_model())
    for step in (5, 6, 1):  # the last put back, as a refused sync does
        engine.load(state, f"solver@{step}")
        engine.score(SCORED)
    outlet.settle()
    left = SharedFolder(str(tmp_path / "shared")).names("weights/run")
    assert [name.split("/")[-1].split("-")[0] for name in left] == [
        "solver@1",
        "solver@5",
        "solver@6",
    ]


def test_closing_leaves_what_is_published_for_who_may_have_taken_the_run_over(
    outlet: Outlet, tmp_path: Path
) -> None:
    asker(outlet).score(SCORED)
    outlet.settle()
    outlet.close()
    assert len(SharedFolder(str(tmp_path / "shared")).names("weights/run")) == 1


def test_what_a_killed_publisher_left_goes_with_the_next_pruning_and_with_all_else(
    outlet: Outlet, memory: Memory, tmp_path: Path
) -> None:
    shared, engine = SharedFolder(str(tmp_path / "shared")), asker(outlet)
    engine.score(SCORED)
    half = tmp_path / "shared" / "weights" / "run" / f"{TEMPORARY}solver@9-ab.safetensors-cdef"
    half.write_bytes(b"half")
    outlet.settle()
    assert shared.remnants() == []
    half.write_bytes(b"half")
    late = tmp_path / "scratch" / "solver.safetensors"
    late.write_bytes(b"half")
    post(tmp_path, memory).weights.clear()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_it_is_said_that_nobody_answers(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 1:
            helper.start()

    helper = Hand(memory, local())
    outlet = Outlet()
    outlet.open(post(tmp_path, memory, say))
    asker(outlet, helps=False, groups=1).score(SCORED)
    helper.over.set()
    assert said[0].startswith("waiting for workers: 5 of 5 items")


def test_an_answer_to_a_claim_that_was_lost_is_not_taken(outlet: Outlet, memory: Memory) -> None:
    engine = asker(outlet, helps=False, groups=0)
    weights = engine._published()
    item = score_item(weights, "score", SCORED)
    memory.put([item])
    late = memory.take([item.id])
    assert late is not None
    memory.lose(late)
    with Hand(memory, local()):
        right = engine.score(SCORED)
    assert not memory.finish(late, b"other", weights.sha256)
    assert engine.score(SCORED) == right


def test_a_helper_that_holds_other_weights_answers_nothing(outlet: Outlet, memory: Memory) -> None:
    helper = local()
    engine = Queued("solver", outlet, helper, PLAIN, 0)
    engine.load(merged_state(tiny_model()), "solver@1")
    helper.load(merged_state(tiny_model(1)), "solver@2")
    with pytest.raises(ItemFailed):
        engine.score(SCORED)
    assert memory.done == {}


def test_a_number_that_is_none_comes_back_as_it_was() -> None:
    odd = (float("nan"), float("-inf"), -0.1)
    engine = ScriptedEngine(lambda p, s: (4, 1), lambda b, t: odd, sure=lambda b, t: (odd, odd))
    weights = WeightsFile("name", "00", "solver@0")
    [((scores,),)] = scores_of(answer(engine, score_item(weights, "score", [ONE])))
    [((sure,),)] = confidences_of(answer(engine, score_item(weights, "confide", [ONE])))
    assert repr(scores) == repr(sure.certainty) == repr(sure.entropy) == repr(odd)


ONE = ScoreRequest((1, 2), ((),), (((3, 4, 5),),))


def test_every_logprob_comes_back_to_the_last_bit() -> None:
    engine = local()
    item = sample_item(WeightsFile("name", "00", "solver@0"), ASKED, 6, 1.0)
    assert samples_of(answer(engine, item)) == engine.sample(ASKED, max_tokens=6, temperature=1.0)


def test_a_claim_is_renewed_until_it_is_lost_or_done() -> None:
    calls, lost = list[int](), threading.Event()

    def renew() -> bool:
        calls.append(1)
        if len(calls) == 3:
            lost.set()
        return len(calls) < 3

    with renewing(renew, 0.001):
        assert lost.wait(10)
    assert len(calls) == 3


def test_a_claim_is_renewed_no_longer_than_it_may_last() -> None:
    calls = list[int]()

    def renew() -> bool:
        calls.append(1)
        return True

    with renewing(renew, 0.001, longest=0.0):
        for thread in threading.enumerate():
            if thread.name == "claim":
                thread.join(10)  # it ends though the block goes on
                assert not thread.is_alive()
    assert calls == []


def test_a_renewal_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_renewing, "LEAVING", 0.01)
    begun, over, ended = threading.Event(), threading.Event(), list[str]()

    def renew() -> bool:
        begun.set()
        over.wait(10)
        ended.append("renewed")
        return True

    with renewing(renew, 0.001):
        assert begun.wait(10)
    assert ended == []
    over.set()
