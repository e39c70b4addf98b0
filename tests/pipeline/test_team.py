"""Two processes take the step that one takes, however its weights are spread over them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.batch import Row, parted, plan
from pipeline.learning.dealing import deal
from pipeline.learning.kept import Kept, Shards, span_of
from pipeline.learning.launch.command import command, environment
from pipeline.learning.learner import Lines, PolicyLearner
from pipeline.learning.optimizers import EightBit
from pipeline.learning.order import order_of
from pipeline.learning.spread import SPREADS
from pipeline.learning.trainee import Trainee
from pipeline.models.policy import wrap_lora
from tests.pipeline.credits import (
    SPLICE,
    config,
    credited,
    distance,
    gradients,
    random_groups,
    rollout,
)
from tests.pipeline.team_cases import CASES, CROSSED, STEPS, Study
from tests.tiny import tiny_model


def slow(test: Callable[..., None]) -> Callable[..., None]:
    """Needs the processes: all such tests run in one place, after one start."""
    marks = (pytest.mark.slow, pytest.mark.xdist_group("launch"), pytest.mark.timeout(400))
    for mark in marks:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Every case by one process, then by two that a launcher starts, then by each from the
    other's checkpoint."""
    made = Study(tmp_path_factory.mktemp("study"))
    for case in CASES:
        made.take("one", case, "replicas")
        shutil.copytree(made.place("one", case, "replicas"), made.place("one", case, "fsdp2"))
    launched = command(made.folder, 2, "tests.pipeline.team_cases")
    passing = tmp_path_factory.mktemp("passing")
    env = {**environment(1), "TMPDIR": str(passing)}
    done = subprocess.run(launched, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(passing.glob("torchelastic*")) == []  # what torch leaves is in the group's folder
    for case in CROSSED:
        for spread in SPREADS:
            made.go_on(made.place("two", case, spread), case, spread)
    return made


def rows(seed: int = 0, groups: int = 6) -> tuple[Row, ...]:
    return plan(random_groups(seed, groups), None, "solver@0", every=True).rows


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_every_row_is_dealt_to_one_process(processes: int, whole: bool):
    dealt = rows()
    hands = deal(dealt, 60, processes, whole_groups=whole)
    assert len(hands) == processes
    assert sorted(i for hand in hands for part in hand for i in part) == list(range(len(dealt)))


def test_one_process_takes_the_micro_batches_as_they_are_parted():
    assert deal(rows(), 60, 1) == [list(parted(rows(), 60))]


def test_no_process_takes_much_more_than_its_share():
    dealt = rows(groups=40)
    loads = [sum(dealt[i].size for part in hand for i in part) for hand in deal(dealt, 60, 4)]
    assert max(loads) < 1.15 * min(loads)


def test_fewer_rows_than_processes_leave_some_idle():
    lone = plan([credited([rollout((10, 11), (20, 1))] * 2, [1.0, 0.0])], None, "", every=False)
    assert deal(lone.rows, 60, 3) == [[[0]], [], []]
    assert deal((), 60, 2) == [[], []]


@slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("case", sorted(CASES.keys() - {"bfloat16"}))
def test_losses_and_gradients_are_those_of_one_process(study: Study, case: str, spread: str):
    one, two = study.place("one", case, spread), study.place("two", case, spread)
    wanted, found = study.read(one, "curve"), study.read(two, "curve")
    assert len(wanted) == len(found) == STEPS[case]
    for left, right in zip(wanted, found, strict=True):
        assert right == pytest.approx(left, rel=1e-6, abs=1e-5)
    assert distance(averages(two), averages(one)) < 1e-5


@slow
def test_shards_gathered_in_bfloat16_compute_as_a_copy_in_bfloat16_does(study: Study):
    places = [study.place("two", "bfloat16", spread) for spread in SPREADS]
    copied, gathered = (study.read(place, "curve")[0] for place in places)
    assert gathered == pytest.approx(copied, rel=1e-6, abs=1e-5)
    assert distance(*map(averages, places)) < 1e-5
    assert {x.dtype for x in averages(places[1]).values()} == {torch.float32}


@slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("case", CROSSED)
def test_a_checkpoint_restores_into_any_number_of_processes(study: Study, case: str, spread: str):
    one, two = study.place("one", case, spread), study.place("two", case, spread)
    assert study.read(two, "next by 2") == study.read(two, "next")  # to the last bit
    unbroken = study.read(one, "next")
    for crossed in (study.read(two, "next by 1"), study.read(one, "next by 2")):
        assert crossed == pytest.approx(unbroken, rel=1e-6, abs=1e-5)


@slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("case", CROSSED)
def test_gathered_weights_are_those_that_one_process_reads(study: Study, case: str, spread: str):
    place = study.place("two", case, spread)
    one, two = (load_file(place / f"by {count}.state") for count in (1, 2))
    assert one.keys() == two.keys()
    for name, weight in one.items():  # adapters are merged by sums of another order
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6 if case == "lora" else 0)


@slow
def test_a_learner_of_one_process_refuses_a_launcher_of_two(study: Study):
    said = [(study.folder / f"mistaken.{rank}").read_text() for rank in (0, 1)]
    assert all("start it without a launcher, and set learner.processes" in one for one in said)


@slow
def test_replicas_write_the_files_of_one_process_and_shards_tensors_and_json(study: Study):
    def files(who: str, spread: str) -> dict[str, str]:
        place = study.place(who, "plain", spread)
        return {
            path.name: path.suffix
            for path in place.iterdir()
            if path.suffix not in (".told", ".state")
        }

    assert files("two", "replicas") == files("one", "replicas")
    sharded = files("two", "fsdp2")
    assert {"solver.weights.0-of-2.safetensors", "solver.moments.1-of-2.safetensors"} <= {*sharded}
    assert set(sharded.values()) == {".safetensors", ".json"}


@slow
@pytest.mark.parametrize("spread", SPREADS)
def test_a_loss_that_is_not_finite_in_one_process_is_refused_by_all(study: Study, spread: str):
    said = study.read(study.place("two", "plain", spread), "refused")
    assert "'loss': nan" in said
    assert "weights stay at solver@4" in said


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_working_layers_out_again_gives_the_same_gradient(tmp_path: Path, adapted: bool):
    found = []
    for again in (False, True):
        model = wrap_lora(tiny_model(), 4, 8.0) if adapted else tiny_model()
        asked = config(learner={"gradient_checkpointing": again}, objective={"kl": 0.05})
        trained = PolicyLearner({"solver": model}, asked, SPLICE, {})
        found.append(gradients(trained, random_groups(), tmp_path / str(again)))
    assert distance(found[1][0], found[0][0]) < 1e-6
    assert found[1][1] == found[0][1]


def test_layers_are_worked_out_again_in_the_backward_pass(tmp_path: Path):
    passes = {again: _layer_passes(again) for again in (False, True)}
    assert passes == {False: 2, True: 4}  # two layers, forward; and forward again


def test_any_number_of_processes_reads_what_any_number_wrote(tmp_path: Path):
    whole = {"a": torch.arange(14.0).view(7, 2), "b": torch.arange(2), "step": torch.tensor(3.0)}
    shapes = {name: tuple(x.shape) for name, x in whole.items()}
    for rank in range(3):
        cut = {n: x[slice(*span_of(len(x), rank, 3))] if x.dim() else x for n, x in whole.items()}
        Shards(tmp_path, "solver", rank, 3).write("weights", cut, shapes)
    with Kept(tmp_path, "solver", "weights") as kept:
        assert kept.shapes == shapes
        for name, wanted in whole.items():
            assert torch.equal(kept.read(name), wanted)
        for size in (1, 2, 4):
            spans = [span_of(7, rank, size) for rank in range(size)]
            assert torch.equal(torch.cat([kept.read("a", span) for span in spans]), whole["a"])


class Quantised:
    """An optimiser that keeps its state as bitsandbytes does: bytes, scales, a map and a count."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.param_groups: list[dict[str, object]] = [{"params": weights, "lr": 0.0}]
        self.state: dict[Tensor, dict[str, Tensor | int]] = {}

    def init_state(self, group: dict[str, object], p: Tensor, gindex: int, pindex: int) -> None:
        self.state[p] = {
            "step": 0,
            "state1": torch.zeros(p.shape, dtype=torch.uint8),
            "absmax1": torch.zeros(1),
            "qmap1": torch.arange(256.0),
        }

    def step(self) -> None:
        for place, weight in enumerate([*self.state] or self.param_groups[0]["params"]):  # type: ignore[call-overload]
            if weight not in self.state:
                self.init_state(self.param_groups[0], weight, 0, place)
            held = self.state[weight]
            held["step"] += 1
            held["state1"] += 3
            held["absmax1"] += 0.5


def test_moments_in_eight_bits_are_kept_and_put_back():
    weights = [torch.zeros(4), torch.zeros(2, 3)]
    first, second = Quantised(weights), Quantised(weights)
    EightBit(first).step(1e-3)
    assert first.param_groups[0]["lr"] == 1e-3
    for weight in weights:
        moments = EightBit(first).moments(weight)
        assert moments.keys() == {"step", "state1", "absmax1"}
        EightBit(second).put(weight, moments)
        held = second.state[weight]
        assert held["step"] == 1
        assert isinstance(held["step"], int)
        assert torch.equal(held["state1"], torch.full(weight.shape, 3, dtype=torch.uint8))
        assert torch.equal(held["qmap1"], torch.arange(256.0))
    EightBit(second).put(weights[0], {})
    assert weights[0] not in second.state


def test_moments_of_a_weight_that_was_kept_in_more_bits_are_refused():
    weights = [torch.zeros(4)]
    moments = {"step": torch.tensor(1), "state1": torch.zeros(4)}
    with pytest.raises(ValueError, match="not written by this optimiser"):
        EightBit(Quantised(weights)).put(weights[0], moments)


def in_eight_bits() -> Trainee:
    """A line whose moments are kept in 8 bits, after a step."""
    trainee = Trainee("solver", tiny_model(), config())
    trainee.optimizer = EightBit(Quantised(list(trainee.held.weights.values())))
    trainee.optimizer.step(1e-3)
    return trainee


def in_full() -> Trainee:
    """The same line, its moments kept as its weights are, after a step."""
    trainee = Trainee("solver", tiny_model(), config())
    for weight in trainee.held.weights.values():
        weight.grad = torch.ones_like(weight)
    trainee.optimizer.step(1e-3)
    return trainee


@pytest.mark.parametrize(("wrote", "reads"), [(in_eight_bits, in_full), (in_full, in_eight_bits)])
def test_moments_of_another_optimiser_are_refused_before_any_weight_is_touched(
    wrote: Callable[[], Trainee], reads: Callable[[], Trainee], tmp_path: Path
):
    wrote().save(tmp_path)
    trainee = reads()
    before = {name: weight.clone() for name, weight in trainee.state().items()}
    with pytest.raises(ValueError, match=r"not written by this optimiser.*learner\.optimizer"):
        trainee.restore(tmp_path)
    assert all(weight.equal(before[name]) for name, weight in trainee.state().items())
    reads().save(tmp_path)
    trainee.restore(tmp_path)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_an_optimiser_in_eight_bits_says_what_it_needs(name: str):
    with pytest.raises(ValueError, match=r"needs weights on a GPU.*use learner\.optimizer=adamw"):
        Trainee("solver", tiny_model(), config(learner={"optimizer": name}))


def test_an_optimiser_in_eight_bits_does_not_go_with_shards():
    with pytest.raises(ValueError, match=r"learner\.spread"):
        config(learner={"optimizer": "adamw_8bit", "spread": "fsdp2", "processes": 2})


def averages(place: Path) -> dict[str, Tensor]:
    """AdamW's first moments, which after one step are the clipped gradient scaled."""
    with Kept(place, "solver", "moments") as kept:
        return {name: kept.read(name) for name in kept.shapes if name.startswith("exp_avg.")}


def _layer_passes(again: bool) -> int:
    """How often a layer's attention runs in one step over one micro-batch."""
    asked = config(learner={"gradient_checkpointing": again, "token_budget": 10_000})
    model, counted = tiny_model(), []
    lines = Lines({"solver": model}, asked)
    for layer in model.model.layers:
        layer.self_attn.register_forward_hook(lambda *_: counted.append(1))
    order = order_of(random_groups(), asked, SPLICE, {"solver": "solver@0"}, step=1)
    lines.take(order)
    return len(counted)
