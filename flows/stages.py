"""The stages of a run, as plain functions: each asks the store first, does one thing, records it.

    round 0   checkpoint, probe                          the start
    round r   propose, climb, sync, checkpoint, probe

A stage that is committed is not done again, whoever asks; what a kill left half done is found in
the store and carried on. Prefect calls the same functions (`flows.evolve`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from pydantic import JsonValue

from flows import truths
from flows.assemble import Parts
from flows.errors import Refusal
from flows.live import Live, Place, published
from flows.looks.figures import read_rounds
from flows.offline import shelf_of
from flows.pool import PoolFile, labelled
from flows.progress import Plan, Progress
from pipeline import round as motion
from pipeline.config import recorded
from pipeline.curriculum import Seen
from pipeline.evaluation.generator import generator_probe
from pipeline.evaluation.solver import solver_probe
from pipeline.evaluation.verifier import make_pool, verifier_probe
from pipeline.files.checkpoint import write_checkpoint
from pipeline.files.pruning import Keep, prune
from pipeline.files.shared import Unanswered
from pipeline.ports import Saved
from pipeline.round import Known
from pipeline.study import study
from pipeline.text.answers import normalise
from pipeline.types import ProbeRecord, Remembered, StepRecord, SyncRecord
from store import ledger, points, questions
from store.database import Lease
from store.leases import check_held
from store.loads import syncs_of
from store.memory import memory, seen_questions
from store.parities import record_parities
from store.points import Point
from store.stages import stages_of


def run_stages(live: Live) -> None:
    """Every stage that is still to do, in order, in this process."""
    for round, stage in to_do(live):
        take_stage(live, round, stage)
    complete(live)


def to_do(live: Live) -> Iterator[tuple[int, str]]:
    """Rounds and stages that no row says are done, in order; told to the progress first."""
    done = [r for r in range(live.rounds + 1) if _is_done(live, r, "probe")]
    live.progress.begin(Plan(live.run, live.rounds, live.config.steps, max(done, default=0)))
    live.progress.probed(read_rounds(live.store, live.run))
    for round in range(live.rounds + 1):
        if round not in done:
            yield from ((round, stage) for stage in stages_of(round))


def take_stage(live: Live, round: int, stage: str) -> None:
    """Do one stage and close it, unless it is closed."""
    if _is_done(live, round, stage):
        return
    live.progress.stage(round, stage)
    live.parts.verifier.forget()
    STAGES[stage](live, round)
    record_compared(live)
    ledger.close_stage(live.store, live.lease, round, stage)
    live.parts.outlet.settle()
    if stage == "probe":
        live.progress.probed(read_rounds(live.store, live.run))


def record_compared(live: Live) -> None:
    """Record what engines came to against the local one since this was last called."""
    gathered = live.parts.parities
    record_parities(live.store, live.lease, gathered)
    gathered.clear()


def complete(live: Live) -> None:
    """Say that the rounds asked for are committed. Raises Unfinished where they are not."""
    stop(live, live.lease, "done", f"{live.rounds} rounds committed", live.progress)


def stop(place: Live | Place, lease: Lease, status: str, reason: str, progress: Progress) -> None:
    """Say how a run stands that asks nothing any more; what its workers loaded is removed.

    The weights go first, so that a kill in between leaves a run that is not done. A shared folder
    that keeps them is told of, and changes nothing. Raises as `ledger.finish` does.
    """
    config = recorded(str(questions.run_facts(place.store, place.run)["config"]))
    check_held(place.store, lease)
    try:
        if config.work.queue:
            published(place, config).clear()
    except (OSError, Unanswered) as error:
        progress.say(f"the weights of run {place.run} stay published: {error}")
    ledger.finish(place.store, lease, status, reason)


def begin(live: Live) -> None:
    """Record the run's seed tasks, or find them as they were.

    Raises Refusal where the source gives other tasks now than when the run began, and where a
    task to train on has become a probe: rows may be dropped by settings that a fork changes.
    """
    recorded = ledger.seed_tasks(live.store, live.run)
    if not recorded:
        ledger.record_seed_tasks(live.store, live.lease, live.parts.seeds)
        for told in live.parts.told:
            live.progress.say(told)
        return
    if live.parent_round is None and recorded != live.parts.seeds:
        raise Refusal(
            f"run {live.run}: {live.config.data.source} gives other seed tasks than when it began",
            remedy="put the file back as it was, or start a new run with it",
        )
    asked = {normalise(question) for question in live.parts.probe_questions}
    shared = [task for task in recorded if normalise(task.question) in asked]
    if shared:
        raise Refusal(
            f"run {live.run}: {len(shared)} tasks to train on stand among its probes now, the "
            f"first of them {shared[0].id}; what is held out has changed since it was recorded",
            remedy="put source and settings back as they were, or start a new run with them",
        )
    live.parts.seeds[:] = recorded


def _propose(live: Live, round: int) -> None:
    """Have the generator write the round's tasks, once."""
    if ledger.load_proposed(live.store, live.run, round) is not None:
        return
    recalled = _recall(live, round - 1)
    known = Known(live.parts.seeds, recalled, _seen(live, round - 1, recalled))
    ledger.record_proposed(live.store, live.lease, motion.propose(live.parts.crew, round, known))


def _climb(live: Live, round: int) -> None:
    """Take the round's steps from the first that is not committed, each committed as it comes."""
    proposed = ledger.load_proposed(live.store, live.run, round)
    if proposed is None:
        raise RuntimeError(f"run {live.run}: round {round} has no proposals, though it was closed")
    done = ledger.steps_done(live.store, live.run, round)
    crew = live.parts.crew
    if live.config.offline.objective == "none":
        records = motion.climb(crew, proposed, live.parts.seeds, done=done)
    else:
        records = study(crew, shelf_of(live), round, done=done)
    for record in records:
        ledger.record_step(live.store, live.lease, record)
        record_compared(live)
        live.parts.outlet.settle()
        live.progress.step(record)
        _warn(live, record)
        live.parts.verifier.forget()


def _warn(live: Live, record: StepRecord) -> None:
    """Say it where a step left out what it should have learned from, or had nothing to learn."""
    skipped = sum(update.unspliced for update in record.updates.values())
    if skipped:
        tag = live.config.tags.answer
        live.progress.say(
            f"step {record.step}: the answer term skipped {skipped} attempts, because their tokens "
            f"hold no <{tag}> of their own; give the base a tokenizer that keeps the tags whole"
        )
    groups = [c.judged.group for c in record.credited if c.judged.group.role == "solver"]
    forms = Counter(t.form for group in groups for t in group.transcripts)
    if forms and not forms["ok"]:
        [(fault, count)] = forms.most_common(1)
        live.progress.say(
            f"step {record.step}: none of the {forms.total()} attempts is well formed ({count} are "
            f"{fault}), so no reference was scored; see what the base writes with `coclimb "
            f"rollouts {live.run}`, then raise solver.max_tokens or set tags.reasoning and "
            "tags.answer to the tags that it knows"
        )


def _sync(live: Live, round: int) -> None:
    """What the sync rule asks for at a round's end, once."""
    if not round_syncs(live, round):
        ledger.record_sync(live.store, live.lease, motion.end_of_round(live.parts.crew, round))


def _checkpoint(live: Live, round: int) -> None:
    """Write, verify and name everything that the next round starts from; then prune."""
    if round == 0 and not live.parts.pool:
        live.parts.pool[:] = make_pool(live.parts.exam, live.parts.solver)
    kept = points.checkpoints(live.store, live.run)
    if not any((point.run, point.round) == (live.run, round) for point in kept):
        name = f"round-{round:03d}"
        root = live.home.checkpoints(live.run)
        sweep_home(live)  # an owner that was replaced may have ended its round since
        meta: JsonValue = {"run": live.run, "round": round, "step": round * live.config.steps}
        written = write_checkpoint(root, name, saved(live.parts), meta)
        live.depot.keep(live.run, written)
        versions = (*live.parts.learner.versions().values(), live.parts.proxy.version)
        folder = live.home.folder_of(live.run, name)
        point = Point(live.run, round, folder, written.manifest_digest, versions)
        points.record_checkpoint(live.store, live.lease, point)
    _prune(live)


def _probe(live: Live, round: int) -> None:
    """Figures of all three axes on the fixed sets, and what truth says of the round's tasks."""
    if round == 0:
        ledger.record_pool(live.store, live.lease, labelled(live.parts.pool))
    if not any(row["round"] == round for row in questions.probes(live.store, live.run)):
        ledger.record_probes(live.store, live.lease, round, probe_axes(live, round))
    steps = ledger.load_steps(live.store, live.run, round)
    told = truths.of_steps(live.parts.exam.truth, steps, live.config.data.source)
    ledger.record_truth(live.store, live.lease, round, told)


STAGES: Mapping[str, Callable[[Live, int], None]] = {
    "propose": _propose,
    "climb": _climb,
    "sync": _sync,
    "checkpoint": _checkpoint,
    "probe": _probe,
}


def probe_axes(live: Live, round: int) -> list[ProbeRecord]:
    """Every figure of solver, verifier and generator under the present weights."""
    parts, exam = live.parts, live.parts.exam
    recalled = _recall(live, round)
    records = solver_probe(exam, parts.solver, parts.learner.versions()["solver"].id)
    records += verifier_probe(exam, parts.pool, parts.verifier)
    seen = _seen(live, round, recalled)
    records += generator_probe(exam, parts.generator, parts.solver, parts.verifier, seen)
    return records


def saved(parts: Parts) -> dict[str, Saved]:
    """What a checkpoint holds, by the folder it is in."""
    return {"learner": parts.learner, "proxy": parts.proxy, "pool": PoolFile(parts.pool)}


def round_syncs(live: Live | Place, round: int) -> list[SyncRecord]:
    """What the end of a round has decided about the proxy, as recorded."""
    return live.store.read(lambda session: list(syncs_of(session, live.run, round, "sync")))


def _recall(live: Live, upto: int) -> list[Remembered]:
    return memory(live.store, live.run, upto, live.config.generator.frontier)


def _seen(live: Live, upto: int, recalled: list[Remembered]) -> Seen:
    """Every text that a proposal must not copy, those that came to nothing included."""
    seen = live.parts.seen(recalled)
    for question in seen_questions(live.store, live.run, upto):
        seen.add("task", question)
    return seen


def own_points(live: Live) -> list[Point]:
    """Kept checkpoints that the run wrote itself, newest first."""
    return [point for point in points.checkpoints(live.store, live.run) if point.run == live.run]


def sweep_home(live: Live) -> None:
    """Remove what stopped writers left of the run's checkpoints in this home.

    Raises LostLease, and removes nothing, where the run is another's by now: what no row names may
    be on its way to one.
    """
    own = own_points(live)
    check_held(live.store, live.lease)
    live.depot.sweep_home(live.run, own)


def _prune(live: Live) -> None:
    """Keep the newest checkpoints, the best round's, and those that forks began from."""
    own = own_points(live)
    named = {p.folder.rsplit("/", 1)[-1]: p for p in own}
    forks = {f.rsplit("/", 1)[-1] for f in points.fork_folders(live.store, live.run)}
    scored = [r for r in read_rounds(live.store, live.run) if r.solver is not None]
    best = max(scored, key=lambda r: r.solver.value if r.solver else 0.0, default=None)
    protected = forks | ({f"round-{best.round:03d}"} if best else set())
    keep = Keep(live.config.checkpoint.keep, protected)

    def forget(name: str) -> None:
        points.mark_pruned(live.store, live.lease, named[name].folder)

    for name in prune(live.home.checkpoints(live.run), list(named), keep, forget):
        live.depot.remove(named[name])


def _is_done(live: Live, round: int, stage: str) -> bool:
    return ledger.stage_done(live.store, live.run, round, stage) is not None
