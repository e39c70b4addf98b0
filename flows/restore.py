"""From what the store holds to parts that stand where the run stopped.

The newest checkpoint is restored, then every step committed after it is taken again from its
stored rollouts: nothing is sampled or scored, and the weights come out the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from flows.assemble import Parts
from flows.errors import Refusal
from flows.live import Live, Place
from flows.owning import LEAVING, deaf
from flows.pool import labelled
from flows.progress import Progress
from flows.stages import own_points, record_compared, round_syncs, saved, sweep_home
from pipeline.evaluation.verifier import make_pool
from pipeline.faults import fault
from pipeline.files.checkpoint import BadCheckpoint, restore_checkpoint
from pipeline.files.shared import Unanswered
from pipeline.step import replay_step
from pipeline.types import StepRecord
from store import ledger, points
from store.chain import owner_of
from store.errors import StoreError
from store.points import Point


class Diverged(RuntimeError):
    """A committed step, taken again, did something else; nothing was written."""


def restore(live: Live, *, older: bool = False) -> None:
    """Bring the parts to where the run stopped; a run without a checkpoint is at its start.

    older  go past checkpoints that do not verify to one that does; said aloud and recorded
    Raises Refusal for a newest checkpoint that does not verify, Diverged for a step that comes
    out otherwise.
    """
    begun = live.parent_round or 0  # an inherited round was climbed under another configuration
    listed = [p for p in points.checkpoints(live.store, live.run) if p.round >= begun]
    sweep_home(live)
    live.depot.sweep(live.run, own_points(live))
    if not listed and live.parent_round == 0:
        begin_again(live)
        _replay(live, 0)
        return
    if not listed and live.parent_round is not None:
        raise Refusal(
            f"run {live.run}: the checkpoint it was forked from is gone",
            remedy="fork a round whose checkpoint is kept",
        )
    if not listed:
        return
    point = _choose(live, listed, older)
    fault("resume.selected")
    restore_checkpoint(live.home.root / point.folder, saved(live.parts), point.manifest_digest)
    live.parts.learner.publish()
    _replay(live, point.round)


def begin_again(live: Live) -> None:
    """Stand at round 0 of the run this one stems from, though its checkpoint is pruned.

    The parts hold the base's weights already, and the frozen pool is sampled from them once more.
    Raises Refusal where either is not what was recorded.
    """
    first = live.store.read(lambda session: owner_of(session, live.run, 0))
    live.parts.pool[:] = make_pool(live.parts.exam, live.parts.solver)
    now = {one.id: one.checksum for one in live.parts.learner.versions().values()}
    then = {one.id: one.checksum for one in points.versions_at(live.store, first, 0)}
    same = all(then.get(name) == checksum for name, checksum in now.items())
    if same and ledger.load_pool(live.store, first) == labelled(live.parts.pool):
        return
    raise Refusal(
        f"run {live.run}: the checkpoint of round 0 of run {first} is pruned, and the base gives "
        f"other {'rollouts for the frozen pool' if same else 'weights'} than it did then",
        remedy="fork a round whose checkpoint is kept",
    )


@contextmanager
def tidy(live: Live) -> Iterator[None]:
    """However the block ends, no process and, while the run is this one's own, no half-written
    checkpoint is left behind, and what engines came to against the local one is recorded. What
    fails of it is left to the next start, and changes nothing of how the run stands."""
    try:
        yield
    finally:
        with deaf():
            leaving = replace(live, store=live.store.within(LEAVING))
            for put_away in (record_compared, lambda live: live.parts.close(), sweep_home):
                with _left_to_the_next_start(live):
                    put_away(leaving)


@contextmanager
def _left_to_the_next_start(live: Live) -> Iterator[None]:
    """What cannot be put away now changes nothing of how the run stands. The store is not spoken
    of: it may be what ended the run, or have refused who lost it."""
    try:
        yield
    except (StoreError, DBAPIError):
        return
    except (OSError, Unanswered) as error:
        live.progress.say(f"run {live.run} could not be tidied up: {error}")


def _choose(live: Live, listed: list[Point], older: bool) -> Point:
    refused: list[str] = []
    for point in listed:
        try:
            live.depot.fetch(point)
        except BadCheckpoint as error:
            refused.append(str(error))
            continue
        if refused and not older:
            raise Refusal(
                refused[0],
                remedy=f"or `coclimb resume {live.run} --older`: it goes back to the checkpoint "
                f"of round {point.round} and takes the committed steps again; no round is lost",
            )
        if refused:
            said = f"went back to the checkpoint of round {point.round}: {'; '.join(refused)}"
            live.progress.say(said)
            ledger.finish(live.store, live.lease, "running", said)
        return point
    raise Refusal(
        f"run {live.run}: no checkpoint verifies",
        refused,
        "copy one back from where it is whole, or start a new run",
    )


def _replay(live: Live, round: int) -> None:
    """Take every committed step after `round` again, and the syncs between rounds."""
    for later in range(round + 1, live.rounds + 1):
        if replay_round(live, live.parts, later, live.progress) < live.config.steps:
            return


def replay_round(place: Live | Place, parts: Parts, round: int, progress: Progress) -> int:
    """Take a round's committed steps again, then its syncs, on parts that stand before it.

    Returns how many steps there were. Raises Diverged for one that comes out otherwise.
    """
    steps = ledger.load_steps(place.store, place.run, round)
    if steps:
        progress.stage(round, "replay")
    for record in steps:
        _compare(record, replay_step(parts.crew, record))
        progress.replayed(record.step)
    for sync in round_syncs(place, round):
        if sync.accepted:
            parts.proxy.sync(step=sync.step, alpha=sync.alpha)
    return len(steps)


def _compare(record: StepRecord, again: StepRecord) -> None:
    """Raise Diverged unless updates and versions, weights' checksums included, are the same."""
    if (record.updates, record.versions) == (again.updates, again.versions):
        return
    told = [
        f"{line}: loss {record.updates[line].loss!r} then, {now.loss!r} now"
        for line, now in again.updates.items()
        if line in record.updates and now != record.updates[line]
    ]
    raise Diverged(
        f"step {record.step} of round {record.round} came out otherwise when it was taken again "
        f"({'; '.join(told) or 'other weights'}), so the machine, its threads or the libraries "
        f"have changed. Go on where they are as they were, or begin from the last checkpoint with "
        f"`coclimb fork RUN --round {record.round - 1}`"
    )
