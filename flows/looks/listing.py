"""The commands that look: runs, rounds, tasks, rollouts, lineage, probe, verify, doctor.

Each prints a table, or with --json the rows themselves; the JSON is a contract.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import cast, get_args

from rich.text import Text
from rich.tree import Tree

from flows.depot import Depot
from flows.errors import FAILED, Refusal, aside
from flows.home import Home
from flows.looks.figures import read_rounds
from flows.looks.report import as_json, axes_table, console, listing, shown
from pipeline.types import Drop, Form, Origin, Role
from store import invariants, questions
from store.database import Store, parse_url
from store.errors import Unknown
from store.lineage import Node, lineage
from store.parities import parities
from store.questions import Answer, Filter
from store.readings import readings_of
from store.waiting import Patience

WIDE = 1000  # characters that a table may take; a narrower terminal wraps its lines
FORMATS = (".png", ".svg", ".pdf")

# the words that a task or a rollout may carry, by the option that asks for one
WORDS = {
    "origin": get_args(Origin),
    "drop": get_args(Drop),
    "role": get_args(Role),
    "form": get_args(Form),
}

LOOKING = 20.0  # seconds that somebody who only looks waits for the store
ONCE = ("seconds", "resampled", "studied")  # what a step says once, not each of its rows

# what fits on a terminal; --json has every column
TASK_COLUMNS = ("id", "confidence", "right", "reference", "question")
DROP_COLUMNS = ("id", "drop", "similarity", "text")
UPDATE_COLUMNS = (
    "step", "round", "line", "loss", "tokens", "dead_groups", "resampled", "mismatch",
)  # fmt: skip
PARITY_COLUMNS = (
    "engine", "version", "tokens", "max_difference", "mean_difference", "mismatch_kl", "accepted",
)  # fmt: skip
READING_COLUMNS = ("id", "source", "status", "mean", "count", "version", "detail")
ROLLOUT_COLUMNS = ("id", "form", "reward", "advantage", "right", "text")


@contextmanager
def reading(home: Home) -> Iterator[Store]:
    """The store that is there. Raises Refusal where none is, rather than make an empty one."""
    address = parse_url(home.store)
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists():
        raise Refusal(
            f"there is no store at {home.store}",
            remedy="`coclimb run` makes one; --home or --store names another",
        )
    store = Store.open(home.store, Patience(LOOKING, say=aside))
    try:
        yield store
    finally:
        store.close()


def list_runs(home: Home, *, json: bool) -> None:
    """Every run, oldest first."""
    with reading(home) as store:
        rows = questions.runs(store)
    if json:
        print(as_json(rows))
        return
    for row in rows:
        row["rounds"] = f"{row['rounds_done']}/{row['rounds_asked']}"
    table(rows, ("id", "name", "status", "rounds", "seed", "parent", "reason"))


def list_rounds(home: Home, run: str, *, json: bool) -> None:
    """The three axes by round."""
    with reading(home) as store:
        name = questions.resolve(store, run)
        if json:
            print(as_json(questions.rounds(store, name)))
            return
        console().print(axes_table(read_rounds(store, name), title=f"run {name}"))


def list_steps(home: Home, run: str, *, json: bool) -> None:
    """What each step did to each line of weights, and every decision about the proxy."""
    with reading(home) as store:
        name = questions.resolve(store, run)
        updates, syncs = questions.updates(store, name), questions.syncs(store, name)
    if json:
        print(as_json(_by_step(updates, syncs)))
        return
    table(updates, UPDATE_COLUMNS)
    for sync in syncs:  # a line each: its reason would be cut in a table
        moved = f"{sync['before']} -> {sync['after']}" if sync["accepted"] else "refused"
        console().print(shown(f"step {sync['step']}: {moved}: {sync['reason']}"), soft_wrap=True)


def list_engines(home: Home, run: str, *, json: bool) -> None:
    """What the engines of a run came to against the local one, in order."""
    with reading(home) as store:
        rows = parities(store, questions.resolve(store, run))
    _show(rows, PARITY_COLUMNS, json=json)


def _by_step(updates: Sequence[Answer], syncs: Sequence[Answer]) -> list[Answer]:
    """One row per step with its updates and syncs; a sync between rounds is with the last step."""
    found: dict[int, tuple[list[Answer], list[Answer]]] = {}
    for side, rows in enumerate((updates, syncs)):
        for row in rows:
            found.setdefault(cast(int, row["step"]), ([], []))[side].append(row)
    return [
        {
            "step": step,
            "round": (taught or moved)[0]["round"],
            **{key: taught[0][key] if taught else None for key in ONCE},
            "updates": [_own(row) for row in taught],
            "syncs": [_own(row) for row in moved],
        }
        for step, (taught, moved) in sorted(found.items())
    ]


def _own(row: Answer) -> Answer:
    """What a row says beside what its step does."""
    return {key: value for key, value in row.items() if key not in ("step", "round", *ONCE)}


def list_tasks(home: Home, run: str, only: Filter, *, json: bool) -> None:
    """Tasks and proposals, newest first."""
    check_words(only)
    with reading(home) as store:
        rows = questions.tasks(store, questions.resolve(store, run), only)
    _show(rows, DROP_COLUMNS if only.drop else TASK_COLUMNS, json=json)


def list_rollouts(
    home: Home, wanted: tuple[str, str], only: Filter, *, readings: bool, json: bool
) -> None:
    """Rollouts of a run or of one task of it, or what meters read of them.

    wanted  a run or a task, and the run the task is in
    """
    subject, run = wanted
    check_words(only)
    with reading(home) as store:
        try:
            name = questions.resolve(store, subject)
        except Unknown:
            name = questions.resolve(store, run)
            only = Filter(**{**asdict(only), "task": subject})
        rows = (readings_of if readings else questions.rollouts)(store, name, only)
        if not rows and only.task == subject:
            lineage(store, name, subject)  # raises Unknown where there is no such thing
    _show(rows, READING_COLUMNS if readings else ROLLOUT_COLUMNS, json=json)


def check_words(only: Filter) -> None:
    """Raise Refusal for a word that no task or rollout carries, with the one that was meant."""
    asked = asdict(only)
    problems = []
    for option, known in WORDS.items():
        word = asked[option]
        if word is None or word in known:
            continue
        close = difflib.get_close_matches(word, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        problems.append(f"--{option}: expected one of {', '.join(known)}, not {word!r}{hint}")
    if problems:
        raise Refusal("nothing is called so", problems)


def show_lineage(home: Home, name: str, run: str, *, json: bool) -> None:
    """Where a task, rollout, version or checkpoint came from."""
    with reading(home) as store:
        root = lineage(store, questions.resolve(store, run), name)
    if json:
        print(as_json(asdict(root)))
        return
    tree = Tree(_label(root))
    _grow(tree, root)
    console().print(tree)


def _label(node: Node) -> Text:
    facts = ", ".join(f"{key} {shown(value)}" for key, value in node.facts.items())
    label = Text(f"{node.kind} ", style="dim")
    label.append(node.id, style="bold")
    label.append(f"  {facts}")
    return label


def _grow(tree: Tree, node: Node) -> None:
    for child in node.children:
        _grow(tree.add(_label(child)), child)


def show_probe(home: Home, run: str, picture: Path | None, *, json: bool) -> None:
    """Every figure of a run's probes; with a file, the climb as a picture."""
    if picture is not None and picture.suffix.lower() not in FORMATS:
        raise Refusal(f"--plot {picture}: expected a file that ends in {', '.join(FORMATS)}")
    with reading(home) as store:
        name = questions.resolve(store, run)
        rows, rounds = questions.probes(store, name), read_rounds(store, name)
    if picture is not None:
        if not rounds:
            raise Refusal(f"run {name} has no probe to draw", remedy="`coclimb resume` it first")
        from flows.looks.plot import plot_climb  # noqa: PLC0415 - half a second, for one option

        plot_climb(rounds, f"run {name}", picture)
        console(stderr=True).print(f"drew {picture}", soft_wrap=True)
    if json:
        print(as_json(rows))
    elif picture is None:
        _by_round(rows)


def _by_round(rows: Sequence[Answer]) -> None:
    """One line per figure, one column per round."""
    rounds = sorted({cast(int, row["round"]) for row in rows})
    lines: dict[tuple[str, str, str], Answer] = {}
    for row in rows:
        key = (str(row["axis"]), str(row["name"]), str(row["slice"]))
        line = lines.setdefault(key, dict(zip(("axis", "figure", "of"), key, strict=True)))
        value, low, high = (cast(float, row[x]) for x in ("value", "low", "high"))
        line[f"round {row['round']}"] = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    table(list(lines.values()), ("axis", "figure", "of", *(f"round {n}" for n in rounds)))


def verify(home: Home, run: str | None, *, json: bool) -> None:
    """Check every invariant, checkpoint files included. Exits 1 on violations."""
    with reading(home) as store:
        name = questions.resolve(store, run) if run else None
        depot = Depot(store, home, home.root)
        told = invariants.verify(store, name, home.root, depot)
    violations = cast("list[Answer]", told["violations"])
    if json:
        print(as_json(told))
    else:
        console().print(f"{told['checked']} checks, {len(violations)} violations")
        if violations:
            table(violations)
    if violations:
        sys.exit(FAILED)


def _show(rows: Sequence[Answer], columns: Sequence[str], *, json: bool) -> None:
    if json:
        print(as_json(rows))
    else:
        table(rows, columns)


def table(rows: Sequence[Answer], columns: Sequence[str] = ()) -> None:
    """Rows as a table of the columns named, or of all; a line of words where there are none."""
    if rows:
        console(width=WIDE).print(listing(rows, columns, console().width))
    else:
        console().print("nothing to list")
