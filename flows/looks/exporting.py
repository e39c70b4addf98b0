"""The command that writes a listing whole, as JSONL, Parquet or a Dataset folder, with a card."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.errors import Refusal
from flows.home import Home
from flows.looks.listing import check_words, reading
from flows.looks.report import console
from pipeline.config import recorded
from store import questions
from store.database import Store
from store.parities import parities
from store.questions import Answer, Filter
from store.readings import readings_of

# what is told of attempts and held-out tasks by truth, which nothing that trains may read
TRUTH = ("right", "per_task")
QUERIES: dict[str, Callable[[Store, str, Filter], list[Answer]]] = {
    "tasks": questions.tasks,
    "rollouts": questions.rollouts,
    "readings": readings_of,
    "updates": lambda store, run, _: questions.updates(store, run),
    "syncs": lambda store, run, _: questions.syncs(store, run),
    "rounds": lambda store, run, _: questions.rounds(store, run),
    "probes": lambda store, run, _: questions.probes(store, run),
    "engines": lambda store, run, _: parities(store, run),
}
NARROWED = ("tasks", "rollouts", "readings")  # the listings that a filter speaks of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export: a listing of a run, what it is narrowed to, and whether truth goes along."""

    run: str
    what: str
    only: Filter
    truth: bool


def export(home: Home, wanted: Wanted, to: Path) -> None:
    """Write the rows and, beside them, a card that says where they come from.

    Raises Refusal for a listing that is not known, a place that is taken, and where nothing is
    found; then nothing is written.
    """
    write, card_file = _place(to)
    _check(wanted)
    with reading(home) as store:
        run = questions.resolve(store, wanted.run)
        rows = QUERIES[wanted.what](store, run, wanted.only)
        if not rows:
            raise Refusal(f"run {run} has no {wanted.what} of that kind: nothing was written")
        kept = rows if wanted.truth else [_without_truth(row) for row in rows]
        told = card(store, run, wanted, kept)
    to.parent.mkdir(parents=True, exist_ok=True)
    write(kept)
    card_file.write_text(told, encoding="utf-8")
    console(stderr=True).print(f"wrote {len(kept)} rows to {to} and {card_file}", soft_wrap=True)


def card(store: Store, run: str, wanted: Wanted, rows: Sequence[Answer]) -> str:
    """A README for the rows, in the form that dataset hosts read; its licence is left open."""
    facts = questions.run_facts(store, run)
    config = recorded(str(facts["config"]))
    narrowed = [f"{k}={v}" for k, v in asdict(wanted.only).items() if v is not None]
    origins = ", ".join(f"{k} {v}" for k, v in questions.origins(store, run).items()) or "none"
    truth = [name for name in rows[0] if name in TRUTH]
    facets = {
        "run": run,
        "configuration (SHA-256)": facts["config_digest"],
        "base model": config.model.base,
        "tasks from": config.data.source,
        "query": ", ".join([wanted.what, *narrowed]),
        "rows": len(rows),
        "columns": ", ".join(rows[0]),
        "columns told by truth": ", ".join(truth) or "left out",
        "tasks of the run by the origin of their reference": origins,
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in facets.items()]
    return CARD.format(what=wanted.what, run=run, facts="\n".join(lines))


CARD = """---
license: unknown
tags:
- coclimb
---

# {what} of run {run}

| | |
|---|---|
{facts}

Written by `coclimb export`. No licence is stated: questions and references of origin `human` are
under the terms of their source, and what a model wrote may be under the terms of that model. Say
which licence holds before you pass this on.
"""


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _check(wanted: Wanted) -> None:
    if wanted.what not in QUERIES:
        raise Refusal(f"--what {wanted.what}: expected one of {', '.join(QUERIES)}")
    narrowed = [k for k, v in asdict(wanted.only).items() if v is not None]
    if narrowed and wanted.what not in NARROWED:
        raise Refusal(f"--{narrowed[0]} says nothing of {wanted.what}, which are written whole")
    check_words(wanted.only)


def _without_truth(row: Answer) -> Answer:
    return {name: value for name, value in row.items() if name not in TRUTH}


Write = Callable[[Sequence[Answer]], None]


def _place(to: Path) -> tuple[Write, Path]:
    """How to write there, and where the card goes. Raises Refusal for a place that is taken."""
    writers: dict[str, Callable[[Sequence[Answer], Path], None]] = {
        ".jsonl": _jsonl,
        ".parquet": _parquet,
        "": _folder,
    }
    writer = writers.get(to.suffix.lower())
    if writer is None:
        raise Refusal(f"--to {to}: expected a .jsonl or .parquet file, or a new folder's name")
    card_file = to.with_name(f"{to.name}.README.md") if to.suffix else to / "README.md"
    for place in (to, card_file):
        if place.exists():
            raise Refusal(f"{place} is there already", remedy="name another, or remove it")

    def write(rows: Sequence[Answer]) -> None:
        partial = to.with_name(f".{to.name}.partial")
        writer(rows, partial)
        os.replace(partial, to)

    return write, card_file


def _jsonl(rows: Sequence[Answer], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _parquet(rows: Sequence[Answer], file: Path) -> None:
    import datasets  # noqa: PLC0415 - a second to import, for two of the forms

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(_flat(rows)).to_parquet(str(file))


def _folder(rows: Sequence[Answer], folder: Path) -> None:
    import datasets  # noqa: PLC0415 - a second to import, for two of the forms

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(_flat(rows)).save_to_disk(str(folder))


def _flat(rows: Sequence[Answer]) -> list[Answer]:
    """The rows with nested values as JSON text: a column has one type, whatever stands in it."""
    return [
        {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
        for row in rows
    ]
