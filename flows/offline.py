"""Training from the store: how such a run begins, and what it reads.

It is a fork of the run whose attempts it studies, so it has its parent's weights, seed tasks,
probes and frozen pool, and every command that looks at a run looks at it as at any other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import cast

from flows.errors import Refusal
from flows.live import Live
from pipeline.config import RunConfig
from pipeline.measures import NotMeasurable
from pipeline.step import judge_again
from pipeline.study import Shelf
from store import questions, shelf
from store.chain import ancestors
from store.database import Store


@dataclass(frozen=True, slots=True)
class Lesson:
    """What `coclimb train` was asked: a source run, the round whose weights begin, an objective."""

    argument: str
    round: int
    objective: str
    changes: list[str]


def changes_for(store: Store, source: str, lesson: Lesson) -> list[str]:
    """The changes that make a fork of the source train from its store.

    A generator is turned off and the rounds read are fixed here, so that `--set` may say
    otherwise, and is told where it may not. Raises Refusal where no objective is named.
    """
    if lesson.objective == "none":
        raise Refusal(
            "objective none learns nothing from the store",
            remedy="name one: --objective qrpo, sft, best_sft or dpo; `coclimb fork` climbs on",
        )
    done = next(row["rounds_done"] for row in questions.runs(store) if row["id"] == source)
    fixed = ['generator.kind="none"', f"offline.upto={done}"]
    named = [f"offline.objective={json.dumps(lesson.objective)}"]
    return [*fixed, *lesson.changes, *named, f"offline.source={json.dumps(source)}"]


def check_source(store: Store, parent: str, config: RunConfig) -> None:
    """Refuse a fork of `parent` that could not learn from its source: another's run, rounds that
    are not committed, no attempts, or a reward that reads what was never measured."""
    source, upto = config.offline.source, config.offline.upto
    history = store.read(lambda session: [span.run for span in ancestors(session, parent)])
    if source not in history:
        raise Refusal(
            f"offline.source is {source}, from which run {parent} does not stem; what another run "
            "trained on may be held out here",
            remedy=f"`coclimb train --from {source}` begins from that run",
        )
    done = cast(int, next(r["rounds_done"] for r in questions.runs(store) if r["id"] == source))
    if not 1 <= upto <= done:
        raise Refusal(
            f"offline.upto is {upto}, and run {source} has {done} committed rounds",
            remedy=f"`coclimb resume {source}` climbs on; or name an earlier round",
        )
    names = shelf.group_names(store, source, upto, config.verifier.consensus_floor)
    if not names:
        raise Refusal(
            f"run {source} holds no solver's groups with a reference up to round {upto}",
            remedy="name the run that attempted tasks; one that was itself trained from a store "
            "attempts none",
        )
    first = {run: (run, group) for run, group in reversed(names)}
    try:
        judge_again(config, shelf.read_groups(store, list(first.values())), 1)
    except NotMeasurable as error:
        raise Refusal(
            f"reward {config.reward.name!r} cannot judge what run {source} stored: {error}",
            remedy="name a reward over what was measured: --set reward.name=NAME",
        ) from error


def shelf_of(live: Live) -> Shelf:
    """The groups that a run may study."""
    offline, floor = live.config.offline, live.config.verifier.consensus_floor
    names = shelf.group_names(live.store, offline.source, offline.upto, floor)
    return Shelf(names, partial(shelf.read_groups, live.store))
