"""Probes: what the three figures count, on verifiers and solvers that answer by rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import GeneratorConfig, ProbeConfig
from pipeline.curriculum import Seen
from pipeline.environments.rule_world import RuleTruth
from pipeline.evaluation.exam import Exam, PoolGroup, ProbeItem, slices
from pipeline.evaluation.generator import generator_probe
from pipeline.evaluation.solver import solver_probe
from pipeline.evaluation.verifier import make_pool, matched_values, pair_values, pool_figure
from pipeline.ports import Consensus
from pipeline.types import Evidence, Group, Rollout, Task, Transcript
from pipeline.worlds import rule


def item(number: int, question: str) -> ProbeItem:
    problem = rule.read(question)
    assert problem is not None
    return ProbeItem(f"i{number}", question, problem.reference, problem.family, problem.depth)


ITEMS = (
    item(0, "Begin at gate 3. (1) Walk 4 gates on. Which bird sits there?"),  # gate 7
    item(1, "Begin at gate 9. (1) Walk 4 gates back. Which bird sits there?"),  # gate 5
)
EXAM = Exam(ITEMS, ITEMS, (), RuleTruth(), ProbeConfig(solver_samples=4), GeneratorConfig())


@dataclass
class Says:
    """A solver whose attempts are the same for every task, one per seed."""

    attempts: Sequence[Transcript]

    def fits(self, question: str) -> bool:
        return True

    def attempt(
        self, tasks: Sequence[Task], seeds: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> list[Group]:
        groups = []
        for task, row, name in zip(tasks, seeds, ids, strict=True):
            assert not task.reference, "the solver was shown a probe's reference"
            said = tuple(self.attempts[i % len(self.attempts)] for i in range(len(row)))
            rollouts = tuple(
                Rollout(f"{name}-g{i}", (), (), (), "", "end", seed, "solver@0")
                for i, seed in enumerate(row)
            )
            groups.append(Group(name, "solver", task, rollouts, said))
        return groups


class Likes:
    """A verifier that finds a reference likely after the reasoning that it is told."""

    version = "proxy@0"

    def __init__(self, likely: dict[tuple[str, str], float]) -> None:
        self.likely = likely

    def measure(self, groups: Sequence[Group]) -> list[tuple[Evidence, ...]]:
        return [tuple(self._one(g.task.reference, t.first) for t in g.transcripts) for g in groups]

    def _one(self, reference: str, reasoning: str) -> Evidence:
        logprob = self.likely.get((reference, reasoning), -3.0)
        return Evidence("measured", self.version, (logprob,), (-2.0,), 5)

    def agree(self, groups: Sequence[Group]) -> list[Consensus]:
        return [Consensus("", 0.0, 0.0) for _ in groups]

    def forget(self) -> None: ...


SEVEN, FIVE, GUESS = "So 7 .", "So 5 .", "So 1 ."


def test_the_solvers_figure_is_its_share_of_right_answers_by_task() -> None:
    said = [Transcript("ok", SEVEN, ITEMS[0].reference), Transcript("unclosed")]
    found = {(r.name, r.slice): r for r in solver_probe(EXAM, Says(said), "solver@0")}
    accuracy = found["accuracy", "all"]
    # 2 of 4 attempts are right on the first task, none on the second
    assert dict(accuracy.per_task) == {"i0": 0.5, "i1": 0.0}
    assert (accuracy.estimate.value, accuracy.estimate.n) == (0.25, 2)
    assert found["form", "all"].estimate.value == 0.5
    assert found["reasoning_accuracy", "family=gates"].estimate.value == 0.25


def test_a_slice_of_one_task_tells_nothing() -> None:
    names = [name for name, _ in slices([*ITEMS, ProbeItem("x", "?", "y", "sums", 4)])]
    assert names == ["all", "family=gates", "depth=1"]


def pool() -> list[PoolGroup]:
    said = [Transcript("ok", text, "?") for text in (SEVEN, FIVE, GUESS, SEVEN)]
    return make_pool(EXAM, Says(said))


def test_the_pool_keeps_right_and_wrong_reasonings_once_each() -> None:
    first, second = pool()
    assert [t.first for t in first.group.transcripts] == [SEVEN, FIVE, GUESS]
    assert first.right == (True, False, False)
    assert [t.first for t in second.group.transcripts] == [FIVE, SEVEN, GUESS]
    assert first.group.task.reference == ITEMS[0].reference


def test_pair_accuracy_is_the_share_of_pairs_ranked_right() -> None:
    # task 0: right above one wrong and below the other; task 1: right above both
    verifier = Likes(
        {
            (ITEMS[0].reference, SEVEN): -1.0,
            (ITEMS[0].reference, FIVE): -0.5,
            (ITEMS[1].reference, FIVE): -1.0,
        }
    )
    assert pair_values(pool(), verifier) == {"i0": 0.5, "i1": 1.0}
    figure = pool_figure(pool(), verifier)
    assert figure is not None
    assert figure.estimate.value == 0.75


def test_without_labels_the_own_reference_is_set_against_anothers() -> None:
    said = {
        (entry.item.reference, t.first): -0.1 for entry in pool() for t in entry.group.transcripts
    }
    assert set(matched_values(pool(), Likes({})).values()) == {0.5}
    own_only = {key: v for key, v in said.items() if key[0] == ITEMS[0].reference}
    values = matched_values(pool(), Likes(own_only))
    assert values["i0"] == 1.0
    assert values["i1"] == 0.0  # there the other task's reference is the likelier one


def test_an_empty_pool_has_no_figure() -> None:
    assert pool_figure([], Likes({})) is None


class Proposes:
    """A generator that writes the given questions for each parent, with a reference to each."""

    def __init__(self, *questions: Sequence[tuple[str, str]]) -> None:
        self.questions = questions

    def fits(self, question: str) -> bool:
        return True

    def propose(
        self, parents: Sequence[Task], seeds: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> list[Group]:
        groups = []
        for parent, said, name in zip(parents, self.questions, ids, strict=True):
            rollouts = tuple(
                Rollout(f"{name}-g{i}", (), (), (), "", "end", i, "generator@0")
                for i in range(len(said))
            )
            texts = tuple(Transcript("ok", question, reference) for question, reference in said)
            groups.append(Group(name, "generator", parent, rollouts, texts))
        return groups


def test_what_is_true_of_valid_proposals_is_clustered_by_parent_as_shares_are() -> None:
    # one parent's three: stated right, wrong, wrong; another's one: right; a third's poses no task
    walk = "Begin at gate {}. (1) Walk 1 gates on. Which bird sits there?"
    deep = "Begin at gate 3. (1) Walk 4 gates on. (2) Walk 2 gates back. Which bird sits there?"
    truth = item(9, walk.format(2)).reference
    generator = Proposes(
        [(walk.format(2), truth), (walk.format(4), "no"), (walk.format(6), "no")],
        [(deep, item(9, deep).reference)],
        [("Which one?", "this")],
    )
    parents = tuple(Task(f"p{i}", "Which?", "", "rule") for i in range(3))
    exam = Exam((), (), parents, RuleTruth(), ProbeConfig(), GeneratorConfig())
    solver = Says([Transcript("ok", "", "?")])
    found = {
        r.name: r for r in generator_probe(exam, generator, solver, Likes({}), Seen(threshold=1.0))
    }
    stated = found["stated_true"]
    # the mean over parents of 1/3 and 1, not 2 of 4 proposals
    assert dict(stated.per_task) == {"probe-p000": 1 / 3, "probe-p001": 1.0}
    assert stated.estimate.value == 2 / 3
    assert stated.estimate.n == 2
    assert (found["depth"].estimate.value, found["valid"].estimate.n) == (1.5, 3)
