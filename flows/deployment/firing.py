"""A firing: what one start of a deployment does to a run, without a word about who started it.

The run is found by its name or begun, owned, brought to where it stopped, and taken on by a bounded
part: some rounds, or one stage. What else fires at the same run meanwhile is refused by the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from flows.assemble import assemble
from flows.errors import Refusal
from flows.live import Assemble, Live, Place, come_alive
from flows.owning import Owning, stoppable
from flows.progress import Progress
from flows.restore import restore, tidy
from flows.running import new_run, run_named
from flows.settings import difference
from flows.stages import begin, complete, stop, to_do
from pipeline.config import ELSEWHERE, RunConfig, recorded
from store import ledger, questions
from store.database import Store
from store.errors import Conflict
from store.places import record_place
from store.stages import stages_of

# takes a stage of a round of the run that it was made for
Taking = Callable[[Live], AbstractContextManager[Callable[[int, str], None]]]


@dataclass(frozen=True, slots=True)
class Firing:
    """What a deployment asks for each time it fires.

    name         of the run; begun where there is none
    rounds       rounds in all, where more are asked for than the run was begun with
    rounds_more  most rounds that one firing climbs; None for all that are left
    """

    name: str
    config: RunConfig
    rounds: int | None = None
    rounds_more: int | None = None


def find_or_begin(place: Place, firing: Firing) -> Place:
    """Where the run of that name is, begun now if it is not there; of two at once one begins it.

    Raises Refusal where the run of that name has other settings.
    """
    there = run_named(place.store, firing.name)
    if there is None:
        if firing.config.offline.objective != "none":
            raise Refusal(
                "a run that learns from the store begins as a fork of the run it learns from",
                remedy=f"begin it once with `coclimb train --name {firing.name}`; then deploy it",
            )
        new = replace(new_run(firing.config, firing.name, None), id=_id(firing.name))
        try:
            return replace(place, run=ledger.create_run(place.store, new))
        except Conflict:  # another machine began it a moment ago, under an environment of its own
            return find_or_begin(place, firing)
    refuse_other_settings(place.store, firing)
    return replace(place, run=there)


def refuse_other_settings(store: Store, firing: Firing) -> None:
    """Refuse a firing whose settings are others than those of the run of that name, if there is
    one: `rounds` and where things are may differ."""
    there = run_named(store, firing.name)
    if there is None:
        return
    begun = recorded(str(questions.run_facts(store, there)["config"]))
    changed = [key for key in _unlike(begun, firing.config) if key != "rounds"]
    if changed:
        raise Refusal(
            f"the run called {firing.name} ({there}) is there, with other settings",
            [f"{key} differs" for key in changed],
            "deploy under another --name, or fork the run: coclimb fork RUN --round N --set ...",
        )


def climb_some(
    place: Place,
    firing: Firing,
    progress: Progress,
    taking: Taking,
    assembled: Assemble = assemble,
) -> str:
    """Climb what the firing asks for, stage by stage through `taking`; returns how the run stands.

    Raises Owned while another process climbs, Refusal for what cannot be climbed.
    """
    if _left(place, firing) == 0:
        _close_up(place, progress)
        return _standing(place)
    with owned(place, firing, progress, assembled) as live:
        asked, done = live.rounds, _rounds_done(place)
        if firing.rounds_more is not None:
            live.rounds = min(asked, done + firing.rounds_more)
        with taking(live) as take:
            for round, stage in to_do(live):
                take(round, stage)
        _say_how_it_stands(live, asked)
    return _standing(place)


def take_one(
    place: Place,
    firing: Firing,
    stage: str,
    progress: Progress,
    taking: Taking,
    assembled: Assemble = assemble,
) -> int:
    """Take exactly this stage of the run's next open round; returns the round.

    Raises Refusal where another stage is next, or none.
    """
    if _left(place, firing) == 0:
        _close_up(place, progress)
    refuse_unless_next(place, stage)
    with owned(place, firing, progress, assembled) as live:
        round = refuse_unless_next(place, stage)
        next(to_do(live), None)  # tells the progress how much there is; the stage is known
        with taking(live) as take:
            take(round, stage)
        _say_how_it_stands(live, live.rounds)
    return round


def refuse_unless_next(place: Place, stage: str) -> int:
    """The round whose next stage this is. Raises Refusal where it is not."""
    asked = _row_number(place, "rounds_asked")
    found = next_open(place, asked)
    if found is None:
        raise Refusal(
            f"run {place.run} has no open stage: {_standing(place)}",
            remedy=f"`coclimb resume {place.run} --rounds {asked + 1}` would add a round",
        )
    round, following = found
    if following != stage:
        raise Refusal(
            f"run {place.run}: {following} of round {round} is next, not {stage}",
            remedy=f"start the deployment of {following}, or the one that climbs whole rounds",
        )
    return round


def next_open(place: Place, asked: int) -> tuple[int, str] | None:
    """Round and stage that a run takes next; None where the rounds asked for are committed."""
    for round in range(asked + 1):
        if ledger.stage_done(place.store, place.run, round, "probe") is not None:
            continue
        for stage in stages_of(round):
            if ledger.stage_done(place.store, place.run, round, stage) is None:
                return round, stage
    return None


@contextmanager
def owned(place: Place, firing: Firing, progress: Progress, assembled: Assemble) -> Iterator[Live]:
    """The run, alive in this process alone and where it stopped, for the length of the block."""
    with stoppable(), Owning(place.store, place.run) as lease:
        if firing.rounds is not None and firing.rounds > _row_number(place, "rounds_asked"):
            ledger.ask_rounds(place.store, lease, firing.rounds)
        begun = _recorded(place)
        now = moved(begun, firing.config)
        if now != begun:  # its workers read their settings from the row
            record_place(place.store, lease, now.model_dump_json())
        live = come_alive(place, lease, progress, assembled)
        with tidy(live):
            begin(live)
            restore(live)
            yield live


def moved(begun: RunConfig, now: RunConfig) -> RunConfig:
    """The settings that a run was begun with, but for where things are: there those of now hold."""
    sections = {
        name: getattr(begun, name).model_copy(
            update={field: getattr(getattr(now, name), field) for field in fields}
        )
        for name, fields in ELSEWHERE.items()
        if name != "offline"  # the runs that are studied were drawn when it began
    }
    return begun.model_copy(update=sections)


def _recorded(place: Place) -> RunConfig:
    return recorded(str(questions.run_facts(place.store, place.run)["config"]))


def _unlike(before: RunConfig, now: RunConfig) -> list[str]:
    one, other = (config.model_dump(exclude=ELSEWHERE) for config in (before, now))
    return difference(one, other)


def _say_how_it_stands(live: Live, asked: int) -> None:
    """Done where every round asked for is committed, else stopped until the next firing."""
    place = Place(live.store, live.home, live.run)
    if next_open(place, asked) is None:
        live.rounds = asked
        complete(live)
        return
    said = f"{_standing(place)}; the next firing goes on"
    stop(live, live.lease, "stopped", said, live.progress)


def _close_up(place: Place, progress: Progress) -> None:
    """Say of a run without an open stage that it is done, where a kill came before its last word.

    No part of it is built. Raises Owned where the process that would say so still lives.
    """
    if _row(place)["status"] == "done":
        return
    with stoppable(), Owning(place.store, place.run) as lease:
        asked = _row_number(place, "rounds_asked")
        stop(place, lease, "done", f"{asked} rounds committed", progress)


def _left(place: Place, firing: Firing) -> int:
    """Rounds still to climb, the start counted as one."""
    asked = max(_row_number(place, "rounds_asked"), firing.rounds or 0)
    following = next_open(place, asked)
    return 0 if following is None else asked - following[0] + 1


def _standing(place: Place) -> str:
    done, asked = _rounds_done(place), _row_number(place, "rounds_asked")
    return f"run {place.run} has {done} of {asked} rounds committed"


def _rounds_done(place: Place) -> int:
    return _row_number(place, "rounds_done")


def _row_number(place: Place, column: str) -> int:
    value = _row(place)[column]
    if not isinstance(value, int):
        raise TypeError(f"{column} of run {place.run} is {value!r}")
    return value


def _row(place: Place) -> questions.Answer:
    return next(row for row in questions.runs(place.store) if row["id"] == place.run)


def _id(name: str) -> str:
    """An id that whoever begins the run of that name would choose, so that two make one row."""
    return hashlib.sha256(f"deployed {name}".encode()).hexdigest()[:8]
