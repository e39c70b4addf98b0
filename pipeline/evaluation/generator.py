"""The generator's probe: what its proposals for fixed parents are worth."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from pipeline.curriculum import Seen, sift
from pipeline.evaluation.exam import Exam, ProbeItem, Values, record
from pipeline.parents import at_frontier
from pipeline.ports import Generator, Solver, Verifier
from pipeline.seeds import seed_of
from pipeline.types import Group, ProbeRecord, Task, Transcript

Test = Callable[[str], float]  # of a proposal, by its rollout's id; a truth value counts 1 or 0


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal and its verdicts; item is None where it is not a valid new task."""

    transcript: Transcript
    new: bool
    item: ProbeItem | None


def generator_probe(
    exam: Exam, generator: Generator, solver: Solver, verifier: Verifier, seen: Seen
) -> list[ProbeRecord]:
    """Shares of all proposals, and what is true of the valid ones, both clustered by parent.

    parsed          the two blocks are there
    new             and it copies no seed, no earlier task, no probe and no sibling
    valid           and it poses a task, where that can be told
    frontier_share  and 0.2 to 0.8 of its attempts are right (match the consensus, where no truth
                    can be read)
    easy, hard      and more, or fewer, are
    stated_true     of the valid: the stated reference is right
    consensus_true  of the valid: the consensus is right (the label-truth meter)
    depth           of the valid: mean depth

    Those of the valid need two parents with valid proposals; the mean is over parents.
    """
    groups = _propose(exam, generator)
    proposals = _verdicts(exam, groups, seen, lambda q: solver.fits(q) and generator.fits(q))
    valid = {key: p.item for key, p in proposals.items() if p.item is not None}
    attempts = _attempt(exam, solver, valid)
    labels = {
        key: found.answer
        for key, found in zip(attempts, verifier.agree(list(attempts.values())), strict=True)
    }
    success = {key: _success(exam, valid[key], labels[key], attempts[key]) for key in valid}
    version = next((r.version for g in groups for r in g.rollouts), "")
    shares: dict[str, Test] = {
        "parsed": lambda key: proposals[key].transcript.form == "ok",
        "new": lambda key: proposals[key].new,
        "valid": lambda key: key in valid,
        "frontier_share": lambda key: key in success and at_frontier(success[key]),
        "easy": lambda key: success.get(key, 0.0) > 0.8,
        "hard": lambda key: success.get(key, 1.0) < 0.2,
    }
    told: dict[str, Test] = {
        "stated_true": lambda key: exam.truth.right(valid[key], proposals[key].transcript.final),
        "consensus_true": lambda key: exam.truth.right(valid[key], labels[key]),
        "depth": lambda key: valid[key].depth,
    }
    records = [
        record("generator", name, "all", _by_parent(groups, proposals, test), version)
        for name, test in shares.items()
    ]
    parents = sum(any(r.id in valid for r in g.rollouts) for g in groups)
    if exam.truth.reads and parents > 1:
        records += [
            record("generator", name, "valid", _by_parent(groups, valid, test), version)
            for name, test in told.items()
        ]
    return records


def _by_parent(groups: Sequence[Group], among: Container[str], test: Test) -> Values:
    """Per parent shown, the test of each of its proposals that are among those asked for."""
    return {g.id: [float(test(r.id)) for r in g.rollouts if r.id in among] for g in groups}


def _propose(exam: Exam, generator: Generator) -> list[Group]:
    size, count = exam.generator.group_size, len(exam.parents)
    seeds = [
        [seed_of(exam.config.seed, "generator-probe", n, g) for g in range(size)]
        for n in range(count)
    ]
    return generator.propose(exam.parents, seeds, [f"probe-p{n:03d}" for n in range(count)])


def _verdicts(
    exam: Exam, groups: list[Group], seen: Seen, fits: Callable[[str], bool]
) -> dict[str, Proposal]:
    sifted = sift(groups, seen, exam.generator, round=0, fits=fits)
    verdicts = {}
    for group, row in zip(groups, sifted.candidates, strict=True):
        for rollout, transcript, task in zip(group.rollouts, group.transcripts, row, strict=True):
            verdicts[rollout.id] = Proposal(transcript, task is not None, _read(exam, task))
    return verdicts


def _read(exam: Exam, task: Task | None) -> ProbeItem | None:
    if task is None:
        return None
    return (
        exam.truth.read(task.question)
        if exam.truth.reads
        else ProbeItem(task.id, task.question, "")
    )


def _attempt(exam: Exam, solver: Solver, valid: Mapping[str, ProbeItem]) -> dict[str, Group]:
    size = exam.config.generator_attempts
    seeds = [
        [seed_of(exam.config.seed, "generator-attempt", key, g) for g in range(size)]
        for key in valid
    ]
    groups = solver.attempt(
        [item.bare() for item in valid.values()], seeds, [f"probe-{key}" for key in valid]
    )
    return dict(zip(valid, groups, strict=True))


def _success(exam: Exam, item: ProbeItem, label: str, group: Group) -> float:
    """Share of attempts that are right; that match the consensus where no truth can be read."""
    known = item if exam.truth.reads else ProbeItem(item.id, item.question, label)
    return sum(
        t.form == "ok" and exam.truth.right(known, t.final) for t in group.transcripts
    ) / len(group.transcripts)
