"""What another reward would have said of a run's stored rollouts; nothing is sampled or scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from pydantic import JsonValue

from flows.errors import Refusal
from flows.home import Home
from flows.looks.listing import reading, table
from flows.looks.report import as_json, console, shown
from flows.settings import build
from pipeline import meters
from pipeline.advantages import credit
from pipeline.agreement import Pairs, pairs, same_best
from pipeline.config import RunConfig, recorded
from pipeline.curriculum import trusted
from pipeline.measures import clustered
from pipeline.rewards import judge
from pipeline.rewards.checks import refuse
from pipeline.types import Estimate, Judged
from store import questions
from store.questions import Answer
from store.retold import Retold, retell

MOST = 5  # groups told of at full length
READS_TEXT = ("tempo",)  # advantages that compare the tokens themselves


@dataclass(frozen=True, slots=True)
class Compared:
    """A group under both rewards, for the rollouts that both could judge."""

    told: Retold
    seats: tuple[int, ...]
    then: tuple[float, ...]
    now: tuple[float, ...]
    pairs: Pairs


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay found.

    missing  meter -> groups in which it was not read; "greedy" for attempts without chance
    tau      mean of tau-b over the groups that both rewards order, clustered by task
    flipped  share of judged rollouts whose advantage has the other sign
    """

    rollouts: int
    groups: int
    missing: Mapping[str, int]
    compared: tuple[Compared, ...]
    total: Pairs
    tau: Estimate | None
    best: float
    flipped: float


def replay(home: Home, run: str, changes: Sequence[str], *, json: bool) -> None:
    """Judge and compare every stored group again under changed settings, and show both."""
    with reading(home) as store:
        name = questions.resolve(store, run)
        before = recorded(str(questions.run_facts(store, name)["config"]))
        after = build(before.model_dump(mode="json"), changes, "--set")
        refuse(after)
        texts = after.objective.advantage in READS_TEXT
        told = retell(store, name, sources=meters.judging(after), texts=texts)
    if not told and before.offline.objective != "none":
        source = before.offline.source
        raise Refusal(
            f"run {name} was trained from the store of run {source} and attempted nothing itself",
            remedy=f"coclimb replay {source}",
        )
    if not told:
        raise Refusal(f"run {name} has no judged attempts yet", remedy="let it finish a step")
    verdict = compare(told, after)
    if json:
        print(as_json([_answer(name, before, after, verdict)]))
        return
    _show(name, before, after, verdict)


def compare(told: Sequence[Retold], config: RunConfig) -> Verdict:
    """Both rewards of every group whose evidence is there, and how far they agree.

    Left out as in training: proposals whose consensus is too doubtful to teach.
    """
    missing: Counter[str] = Counter()
    whole: list[Retold] = []
    wanted = meters.judging(config)
    remax = config.objective.advantage == "remax"
    greedy = {(o.run, o.step, o.group.task.id) for o in told if o.group.role == "greedy"}
    for one in told:
        if not trusted(one.group.task, config.verifier.consensus_floor):
            continue
        lacks = _lacks(one, wanted)
        if remax and (one.run, one.step, one.group.task.id) not in greedy:
            lacks.append("greedy")
        missing.update(lacks)
        if not lacks:
            whole.append(one)
    again = [judge(one.group, one.evidence, config.reward_at(one.step)) for one in whole]
    pairs_of = [_compared(one, new) for one, new in zip(whole, again, strict=True)]
    compared = tuple(one for one in pairs_of if one.told.group.role == "solver")
    rollouts = sum(len(one.seats) for one in compared)
    best = [same_best(one.then, one.now) for one in compared if one.seats]
    return Verdict(
        rollouts=rollouts,
        groups=len(compared),
        missing=missing,
        compared=compared,
        total=sum((one.pairs for one in compared), Pairs()),
        tau=_tau(compared),
        best=sum(best) / max(len(best), 1),
        flipped=sum(_flips(whole, again, config)) / max(rollouts, 1),
    )


def _lacks(one: Retold, wanted: Sequence[str]) -> list[str]:
    """The meters that did not read every attempt of the group that could be judged."""
    judged = [e for e in one.evidence if e.status in ("measured", "malformed")]
    return [meter for meter in wanted if any(e.reading(meter) is None for e in judged)]


def _compared(told: Retold, new: Judged) -> Compared:
    now = dict(zip(new.kept, new.rewards, strict=True))
    then = {seat: reward for seat, reward in enumerate(told.rewards) if reward is not None}
    seats = tuple(seat for seat in then if seat in now)
    first, second = tuple(then[s] for s in seats), tuple(now[s] for s in seats)
    return Compared(told, seats, first, second, pairs(first, second))


def _tau(compared: Sequence[Compared]) -> Estimate | None:
    by_task: dict[str, list[float]] = {}
    for one in compared:
        if one.pairs.tau is not None:
            by_task.setdefault(one.told.group.task.id, []).append(one.pairs.tau)
    return clustered(list(by_task.values())) if by_task else None


def _flips(whole: Sequence[Retold], again: Sequence[Judged], config: RunConfig) -> Iterator[int]:
    """Per step, how many rollouts get an advantage of the other sign than they had."""
    remax = config.objective.advantage == "remax"
    steps = zip(whole, again, strict=True)
    for _, members in groupby(steps, key=lambda pair: (pair[0].run, pair[0].step)):
        here = [pair for pair in members if pair[1].kept]
        greedy = {new.group.task.id: new.rewards[0] for _, new in here if _is_greedy(new)}
        solvers = [
            (one, new)
            for one, new in here
            if not _is_greedy(new) and (not remax or new.group.task.id in greedy)
        ]
        credited = credit([new for _, new in solvers], config.objective, greedy)
        for (one, new), now in zip(solvers, credited, strict=True):
            then = [one.advantages[seat] or 0.0 for seat in new.kept]
            yield sum(a * b < 0 for a, b in zip(then, now.advantages, strict=True))


def _is_greedy(judged: Judged) -> bool:
    return judged.group.role == "greedy"


def _worst(verdict: Verdict) -> list[Compared]:
    """The groups on which both disagree most, the most opposed pairs first."""
    ranked = sorted(verdict.compared, key=lambda one: (-one.pairs.opposed, -one.pairs.tied_both))
    return [one for one in ranked if one.pairs.opposed][:MOST]


def _answer(run: str, before: RunConfig, after: RunConfig, verdict: Verdict) -> Answer:
    tau = verdict.tau
    return {
        "run": run,
        "trained_with": before.reward.name,
        "replayed_with": after.reward.name,
        "advantage": after.objective.advantage,
        "groups": verdict.groups,
        "rollouts": verdict.rollouts,
        "missing": dict(verdict.missing),
        "tau": None if tau is None else [tau.value, tau.low, tau.high, tau.n],
        "pairs": asdict(verdict.total),
        "same_best": verdict.best,
        "advantage_flipped": verdict.flipped,
        "disagree_most": [_told(one) for one in _worst(verdict)],
    }


def _told(one: Compared) -> Answer:
    told: list[JsonValue] = [
        {"rollout": one.told.group.rollouts[seat].id, "then": then, "now": now}
        for seat, then, now in zip(one.seats, one.then, one.now, strict=True)
    ]
    task = one.told.group.task
    return {
        "group": one.told.group.id,
        "task": task.id,
        "question": task.question,
        "tau": one.pairs.tau,
        "rollouts": told,
    }


def _show(run: str, before: RunConfig, after: RunConfig, verdict: Verdict) -> None:
    screen = console()
    then, now = before.reward.name, after.reward.name
    screen.print(shown(f"run {run}: trained with {then}, replayed with {now}"))
    for meter, groups in verdict.missing.items():
        said = f"{groups} groups left out: the meter {meter!r} did not read them"
        advice = f'a run measures it with --set verifier.also=["{meter}"]'
        if meter == "greedy":
            said = f"{groups} groups left out: nobody attempted their tasks without chance"
            advice = 'a run does with --set objective.advantage="remax"'
        screen.print(shown(f"{said}; {advice}"), soft_wrap=True)
    if not verdict.groups:
        return
    total = verdict.total
    count = total.same + total.opposed + total.tied_first + total.tied_second + total.tied_both
    rows: list[Answer] = [
        {"figure": "groups, rollouts", "value": f"{verdict.groups}, {verdict.rollouts}"},
        {"figure": "rank agreement in a group (Kendall's tau-b)", "value": _interval(verdict.tau)},
        {"figure": "pairs in the same order", "value": _share(total.same, count)},
        {"figure": "pairs in the opposite order", "value": _share(total.opposed, count)},
        {"figure": f"pairs that {then} ties", "value": _share(total.tied_first, count)},
        {"figure": f"pairs that {now} ties", "value": _share(total.tied_second, count)},
        {"figure": "pairs that both tie", "value": _share(total.tied_both, count)},
        {"figure": "groups with the same best rollout", "value": f"{verdict.best:.3f}"},
        {"figure": "rollouts whose advantage changes sign", "value": f"{verdict.flipped:.3f}"},
    ]
    table(rows, ("figure", "value"))
    for one in _worst(verdict):
        task = one.told.group.task
        screen.print(
            shown(f"{one.told.group.id}, {one.pairs.opposed} pairs turned: {task.question}")
        )
        sides = zip(one.seats, one.then, one.now, strict=True)
        told = (f"g{seat} {old:.3f} -> {new:.3f}" for seat, old, new in sides)
        screen.print(shown("  " + "  ".join(told)), soft_wrap=True)


def _interval(tau: Estimate | None) -> str:
    if tau is None:
        return "no group is ordered by both"
    return f"{tau.value:.3f} [{tau.low:.3f}, {tau.high:.3f}]"


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.3f}"
