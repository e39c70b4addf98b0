"""Attack strings against every verifier: how often each accepts what deserves nothing.

What "accepts" means stands beside each verifier's name in `pipeline.evaluation.acceptance`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from pydantic import JsonValue
from transformers.utils.logging import disable_progress_bar

from agents.prompts import Prompts
from flows.assemble import Parts, assemble
from flows.depot import Depot
from flows.engines import alone
from flows.errors import Refusal
from flows.home import Home
from flows.live import Assemble
from flows.looks.listing import reading
from flows.looks.report import as_json, console, listing
from flows.stages import saved
from pipeline.config import RunConfig, recorded
from pipeline.evaluation.acceptance import ACCEPTS, EXEMPT
from pipeline.evaluation.attacks import BAR, Completion, Rate, Told, completions, rates
from pipeline.files.checkpoint import restore_checkpoint
from pipeline.ports import Meter, Verifier
from pipeline.text.transcript import parse
from pipeline.types import Evidence, Group, Rollout, Task
from store import points, questions

AT_ONCE = 8  # tasks measured in one call


@dataclass(frozen=True, slots=True)
class Attacked:
    """What every verifier took.

    tasks   how many were attacked
    proxy   the version under which the likelihood was read
    exempt  the meters that were not attacked, each with the reason
    """

    tasks: int
    proxy: str
    rates: tuple[Rate, ...]
    exempt: Mapping[str, str]


def report(home: Home, run: str | None, tasks: int, *, json: bool) -> None:
    """Attack the verifiers of a run, or of the default configuration, and print what they took."""
    disable_progress_bar()
    parts = parts_of(home, run)
    with closing(parts):
        found = attack(parts, [parts.meter(name) for name in attacked(parts.config)], tasks)
    if json:
        print(as_json(_plain(found)))
        return
    shown = console()
    shown.print(f"{found.tasks} held-out tasks, likelihood under {found.proxy}: accepted, in %")
    shown.print(listing(_summary(found.rates), (), shown.width))
    shown.print(listing(_by_attack(found.rates), (), shown.width))
    shown.print("(in brackets: rightly accepted by a verifier that reads the answer alone)")
    over = [rate.verifier for rate in found.rates if rate.attack == "all" and rate.above]
    shown.print(f"above {100 * BAR:g} %: {', '.join(over) or 'none'}", soft_wrap=True)
    for name, reason in found.exempt.items():
        shown.print(f"not attacked: {name}, {reason}", soft_wrap=True)


def attacked(config: RunConfig) -> list[str]:
    """The meters whose readings an acceptance is told by, as far as the run can make them."""
    named = dict.fromkeys(acceptance.meter for acceptance in ACCEPTS.values() if acceptance.meter)
    return [name for name in named if name not in exempt(config)]


def exempt(config: RunConfig) -> dict[str, str]:
    """The meters that are not attacked under these settings, each with the reason."""
    if config.verifier.rubric:
        return EXEMPT
    return EXEMPT | {"rubric": "verifier.rubric has no item"}


def attack(parts: Parts, meters: Sequence[Meter], most: int) -> Attacked:
    """Every attack on at most `most` held-out tasks, read by the run's verifier and the meters."""
    items = {item.question: item for item in (*parts.exam.items, *parts.exam.pool_items)}
    tasks = [replace(item.bare(), reference=item.reference) for item in list(items.values())[:most]]
    left_out = exempt(parts.config)
    asked_of = {name: one for name, one in ACCEPTS.items() if one.meter not in left_out}
    told: dict[str, list[Told]] = {name: [] for name in asked_of}
    for start in range(0, len(tasks), AT_ONCE):
        asked = [(task, completions(task)) for task in tasks[start : start + AT_ONCE]]
        groups = [_group(parts.prompts, task, made) for task, made in asked]
        for (_, made), row in zip(asked, _read(parts.verifier, meters, groups), strict=True):
            for completion, evidence in zip(made, row, strict=True):
                for name, acceptance in asked_of.items():
                    told[name].append((completion.attack, acceptance.accepts(evidence)))
    fair = {name: acceptance.fair for name, acceptance in asked_of.items()}
    return Attacked(len(tasks), parts.verifier.version, tuple(rates(told, fair)), left_out)


def parts_of(home: Home, run: str | None, assembled: Assemble = assemble) -> Parts:
    """The parts of a run at its newest checkpoint, only to be asked; the default's without a run.

    Raises Refusal where the run has no checkpoint, BadCheckpoint where it does not verify.
    """
    if run is None:
        return assembled(RunConfig())
    with reading(home) as store:
        name = questions.resolve(store, run)
        config = recorded(str(questions.run_facts(store, name)["config"]))
        kept = points.checkpoints(store, name)
        if not kept:
            raise Refusal(f"run {name} has no checkpoint", remedy=f"`coclimb resume {name}` first")
        newest = max(kept, key=lambda point: point.round)
        folder = Depot(store, home, home.checkpoints(name)).fetch(newest)
    parts = assembled(alone(config))
    restore_checkpoint(folder, saved(parts), newest.manifest_digest)
    return parts


def _read(
    verifier: Verifier, meters: Sequence[Meter], groups: Sequence[Group]
) -> Iterator[tuple[Evidence, ...]]:
    """Evidence of each group with what the meters read beside it."""
    beside = [meter.read(groups) for meter in meters]
    for i, row in enumerate(verifier.measure(groups)):
        yield tuple(
            replace(one, readings=(*one.readings, *(rows[i][seat] for rows in beside)))
            for seat, one in enumerate(row)
        )


def _group(prompts: Prompts, task: Task, made: Sequence[Completion]) -> Group:
    """The attacks on one task as if they had been sampled."""
    name = f"attack-{task.id}"
    rollouts = tuple(_rollout(prompts, task, f"{name}-g{i}", one) for i, one in enumerate(made))
    blocks = prompts.attempt_blocks
    parsed = tuple(parse(rollout.completion, blocks, truncated=False) for rollout in rollouts)
    return Group(name, "solver", task, rollouts, parsed)


def _rollout(prompts: Prompts, task: Task, name: str, one: Completion) -> Rollout:
    read = prompts.attempt(task.question)
    bare = one.place == "bare"
    said = prompts.plain(one.answer) if bare else prompts.attempted(one.reasoning, one.answer)
    end = prompts.tokenizer.eos_token_id
    wrote = (*said, end) if one.ended and isinstance(end, int) else said
    return Rollout(
        id=name,
        tokens=read + wrote,
        written=(False,) * len(read) + (True,) * len(wrote),
        logprobs=(0.0,) * len(read + wrote),
        completion=prompts.decode(said),
        stop="end",
        seed=0,
        version="attack",
    )


def _plain(found: Attacked) -> dict[str, JsonValue]:
    rows: list[JsonValue] = [
        {
            "verifier": rate.verifier,
            "attack": rate.attack,
            "tries": rate.tries,
            "accepted": rate.accepted,
            "unread": rate.unread,
            "rate": rate.estimate.value if rate.estimate else None,
            "low": max(rate.estimate.low, 0.0) if rate.estimate else None,
            "high": rate.estimate.high if rate.estimate else None,
            "above": rate.above,
        }
        for rate in found.rates
    ]
    return {
        "tasks": found.tasks,
        "proxy": found.proxy,
        "bar": BAR,
        "rates": rows,
        "exempt": dict(found.exempt),
    }


def _summary(found: Sequence[Rate]) -> list[dict[str, JsonValue]]:
    """One row per verifier: its false-positive rate over all attacks."""
    return [
        {
            "verifier": rate.verifier,
            "all attacks": _percent(rate, interval=True),
            "tries": rate.tries,
            "unread": rate.unread,
            f"above {100 * BAR:g} %": rate.above,
        }
        for rate in found
        if rate.attack == "all"
    ]


def _by_attack(found: Sequence[Rate]) -> list[dict[str, JsonValue]]:
    """One row per attack, a column per verifier."""
    rows: dict[str, dict[str, JsonValue]] = {}
    for rate in found:
        if rate.attack != "all":
            cell = _percent(rate, interval=False)
            fair = rate.attack in ACCEPTS[rate.verifier].fair
            row = rows.setdefault(rate.attack, {"attack": rate.attack})
            row[rate.verifier] = f"({cell})" if fair else cell
    return list(rows.values())


def _percent(rate: Rate, *, interval: bool) -> str:
    if rate.estimate is None:
        return "-"
    found = rate.estimate
    value, low, high = (100 * max(x, 0.0) for x in (found.value, found.low, found.high))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]" if interval else f"{value:.1f}"
