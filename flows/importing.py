"""The command that reads a source as a run would and says what became of it; starts no run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from json import dumps

from pydantic import JsonValue

from flows.assemble import reader
from flows.errors import Refusal, printable
from flows.looks.report import as_json, console, shown
from flows.settings import load_config
from flows.sources.rows import Done, Source, fit, keep_apart, read_source
from pipeline.config import RunConfig
from pipeline.environments.table import TooFewRows


@dataclass(frozen=True, slots=True)
class Imported:
    """What a run would make of a source. refused: why it would not begin; None where it would."""

    source: Source
    refused: Refusal | None


def report(file: str, changes: Sequence[str], *, json: bool) -> None:
    """Print what a run would read, change and leave out of the source.

    Raises Refusal where the source cannot be read at all. A rule that would refuse it is told as
    part of the report.
    """
    asked = [f"data.source={dumps(file, ensure_ascii=False)}", *changes]
    config = load_config(None, asked)
    found = read(config)
    if json:
        print(as_json(_facts(config, found)))
    else:
        _print(found, asked)


def read(config: RunConfig) -> Imported:
    """The source as far as a run would take it. Raises Refusal as `read_source` does."""
    source = read_source(config.data)
    prompts, context = reader(config)
    stages: tuple[Callable[[Source], Source], ...] = (
        lambda so_far: fit(so_far, prompts, config, context),
        lambda so_far: keep_apart(so_far, config),
    )
    refused: list[Refusal] = []
    for stage in stages:  # one that refuses leaves the rows to the next, so that all is told
        try:
            source = stage(source)
        except TooFewRows as error:
            refused.append(Refusal(str(error)))
        except Refusal as error:
            refused.append(error)
    if not refused and min(len(source.train), len(source.held)) < 2:
        told = f"{len(source.train)} rows to train on and {len(source.held)} to hold out are left"
        refused.append(Refusal(told, remedy="at least 2 of each are needed"))
    return Imported(source, refused[0] if refused else None)


def _facts(config: RunConfig, found: Imported) -> JsonValue:
    source = found.source
    return {
        "source": config.data.source,
        "splits": dict(source.splits),
        "shared": dict(source.shared),
        "train": len(source.train),
        "probe": len(source.held),
        "done": [_done(one) for one in source.done],
        "refused": None if found.refused is None else _refused(found.refused),
    }


def _done(done: Done) -> JsonValue:
    examples: list[JsonValue] = [{"row": row, "told": told} for row, told in done.examples]
    return {**asdict(done), "examples": examples}


def _refused(refusal: Refusal) -> JsonValue:
    problems: list[JsonValue] = [*refusal.problems]
    return {"what": refusal.what, "problems": problems, "remedy": refusal.remedy}


def _print(found: Imported, asked: Sequence[str]) -> None:
    out = console()
    source = found.source
    lines = [f"{count} rows in {name or 'the source'}" for name, count in source.splits.items()]
    lines += [f"{count} questions of {pair} too" for pair, count in source.shared.items()]
    for one in source.done:
        lines.append(f"{one.count:7} {one.name:12} {one.told}")
        lines += [f"{'':20} row {row}: {shown(told)}" for row, told in one.examples]
    lines.append(f"{len(source.train)} rows to train on, {len(source.held)} to probe with")
    if found.refused is not None:
        lines.append(f"a run would refuse this: {found.refused.told()}")
    else:
        command = " ".join(f"--set {shlex.quote(change)}" for change in asked)
        lines.append(f"this begins a run with them: coclimb run {command}")
    out.print(printable("\n".join(lines)), soft_wrap=True)
