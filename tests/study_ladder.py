"""A program, not a test: does the verifier rank answers by what is right in them?

    python -m tests.study_ladder FILE [--tasks 64] [--attempts 0] [--set KEY=VALUE ...]

Takes the file's multiple-choice questions, scores four answers to each (letter and text right, one
of them, neither) and prints how often they stand in that order: without reasoning, and with
--attempts after what the base reasons itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

from agents.verifiers.perplexity import Perplexity
from flows.assemble import Parts, assemble
from flows.settings import load_config
from pipeline.evaluation.ladder import RUNGS, Rung, rank_ladder, variants
from pipeline.ports import ScoreRequest, Verifier
from pipeline.seeds import seed_of
from pipeline.text.choices import options_of
from pipeline.types import Evidence, Group, Task

Asked = tuple[Task, dict[Rung, str]]
Scored = dict[Rung, Sequence[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--attempts", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    changes = [f"data.source={json.dumps(options.file)}", "data.choices=letter_text"]
    parts = assemble(load_config(None, [*changes, "data.too_long=drop", *options.set]))
    asked = [(task, found) for task in parts.seeds if (found := answers(task))][: options.tasks]
    bare = without_reasoning(parts, asked)
    show(f"without reasoning, {len(bare)} tasks", bare)
    if options.attempts:
        reasoned = after_reasoning(parts, asked, options.attempts)
        show(f"after reasoning, {len(reasoned)} attempts", reasoned)


def answers(task: Task) -> dict[Rung, str] | None:
    """The four answers of a task whose reference states one of its options; None for another."""
    told = [option.told() for option in options_of(task.question)]
    if task.reference not in told:
        return None
    return variants(options_of(task.question), told.index(task.reference))


def without_reasoning(parts: Parts, asked: Sequence[Asked]) -> list[Scored]:
    """Log-probabilities of each task's answers right behind the opened answer."""
    prompts = parts.prompts
    requests = [
        ScoreRequest(
            prompts.attempt(task.question),
            (prompts.open_answer,),
            (tuple(prompts.closed_reference(told[rung]) for rung in RUNGS),),
        )
        for task, told in asked
    ]
    assert isinstance(parts.verifier, Perplexity)
    scores = parts.verifier.engine.score(requests)
    return [dict(zip(RUNGS, one[0], strict=True)) for one in scores]


def after_reasoning(parts: Parts, asked: Sequence[Asked], attempts: int) -> list[Scored]:
    """The same of each well-formed attempt, after what it reasoned."""
    seeds = [[seed_of(1, "ladder", task.id, n) for n in range(attempts)] for task, _ in asked]
    names = [f"ladder-{n}" for n in range(len(asked))]
    groups = parts.solver.attempt([task for task, _ in asked], seeds, names)
    found: list[Scored] = []
    for group, (_, told) in zip(groups, asked, strict=True):
        evidence = {rung: measured(parts.verifier, group, told[rung]) for rung in RUNGS}
        for seat in range(attempts):
            row = {rung: evidence[rung][seat] for rung in RUNGS}
            if all(one.status == "measured" for one in row.values()):
                found.append({rung: one.reference_logprobs for rung, one in row.items()})
    return found


def measured(verifier: Verifier, group: Group, answer: str) -> tuple[Evidence, ...]:
    return verifier.measure([replace(group, task=replace(group.task, reference=answer))])[0]


def show(title: str, scored: list[Scored]) -> None:
    if not scored:
        print(f"{title}: nothing could be measured")
        return
    found = rank_ladder(scored)
    print(f"{title}: in order {found.ordered.value:.2f} "
          f"[{found.ordered.low:.2f}, {found.ordered.high:.2f}]")  # fmt: skip
    for (better, worse), share in found.pairs.items():
        told = f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"
        print(f"  {better:>7} above {worse:8} {told}")


if __name__ == "__main__":
    main()
