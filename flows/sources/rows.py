"""From a source's cells to rows that a run can use, with everything that was done to them told.

Three stages, each a Refusal where its rule says so: `read_source` (texts, stripped, converted,
merged), `fit` (nothing longer than the model reads), `keep_apart` (no question on both sides; last,
so that probes are cut from rows that can be asked).
A row that cannot be used refuses the source; what a rule removes is counted, with examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flows.errors import Refusal
from flows.sources.cells import rows_of
from flows.sources.near import earlier_pairs, nearest_pairs
from flows.sources.origins import Numbered, load
from pipeline.config import DataConfig, RunConfig, TagsConfig
from pipeline.environments.table import Row, cut, merge, mixed
from pipeline.text.answers import normalise
from pipeline.text.choices import letter_text
from pipeline.text.skeleton import strip_skeleton

SHOWN = 3  # examples of each thing done
Alike = tuple[Row, Row, float]  # a row, the one it is like, how like


class Encodes(Protocol):
    """How much room texts take in the model's context; `agents.prompts.Prompts` fills it."""

    def attempt(self, question: str) -> tuple[int, ...]: ...

    def proposal(self, parent: str) -> tuple[int, ...]: ...

    def answer(self, text: str) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Done:
    """One kind of thing that was done to rows, or found in them.

    examples  a few of them: the row's number, and what it was about
    """

    name: str
    count: int
    told: str
    examples: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to train on and rows to hold out.

    held    empty until `keep_apart` cut them, unless the source names a split for them
    splits  rows of each split of the source, by name; "" where it names none
    shared  by two splits' names: how many questions of the first stand in the second too
    """

    train: tuple[Row, ...]
    held: tuple[Row, ...]
    splits: dict[str, int]
    shared: dict[str, int]
    done: tuple[Done, ...]

    def told(self) -> list[str]:
        """A line for each thing that was done."""
        return [f"{one.name}: {one.count} {one.told}" for one in self.done if one.count]


def prepare(config: RunConfig, prompts: Encodes, context: int) -> Source:
    """The rows of a run, ready. context: tokens that the model can read. Raises Refusal."""
    return keep_apart(fit(read_source(config.data), prompts, config, context), config)


def read_rows(config: DataConfig) -> list[Row]:
    """Every row of the source's split, as it stands there. Raises Refusal with every problem.

    A file with a column named as data.split_column gives the rows whose split is data.split.
    """
    return rows_of(load(config), config.split, config)


def read_source(config: DataConfig) -> Source:
    """Both sides as the source gives them: bare questions, each once on its side.

    Raises Refusal with the first ten problems and their count.
    """
    found = load(config)
    train = rows_of(found, config.split, config)
    held = rows_of(found, config.probe_split, config) if config.probe_split else []
    splits = dict(Counter(row.split or "" for row in found))
    done = [Done("read", len(train) + len(held), f"of {len(found)} rows in the source")]
    sides = [train, held]
    for change in (_strip, _convert, _merge):
        sides, more = change(sides, config)
        done += more
    done.append(_bracketed(sides))
    return Source(tuple(sides[0]), tuple(sides[1]), splits, _shared(found, config), tuple(done))


def fit(source: Source, prompts: Encodes, config: RunConfig, context: int) -> Source:
    """Nothing is longer than the model reads: such rows refuse the source, or are left out.

    Raises Refusal under too_long "refuse", and for a reference that holds a tag of the run's own.
    """
    _check_tags((*source.train, *source.held), config.tags)
    if config.data.too_long == "refuse":
        check_lengths((*source.train, *source.held), prompts, config, context)
        return source
    wrong = {
        row.number: told
        for row in (*source.train, *source.held)
        if (told := _too_long(row, prompts, config, context))
    }
    train, held = (
        tuple(row for row in side if row.number not in wrong)
        for side in (source.train, source.held)
    )
    told = f"rows dropped, longer than the {context} tokens that the model reads"
    if source.held:
        told += f"; {len(source.held) - len(held)} of them probes"
    done = Done("too_long", len(wrong), told, tuple(sorted(wrong.items())[:SHOWN]))
    return replace(source, train=train, held=held, done=(*source.done, done))


def keep_apart(source: Source, config: RunConfig) -> Source:
    """No question to train on stands among the probes, equal or nearly so.

    Without a probe split the probes are cut off here. Raises Refusal under duplicates "refuse",
    and TooFewRows.
    """
    data = config.data
    if data.probe_split:
        train, held = list(source.train), mixed(source.held, config)
    else:
        train, held = cut(source.train, config)
    asked = {normalise(row.question): row for row in held}
    equal = [(row, there) for row in train if (there := asked.get(normalise(row.question)))]
    gone = {row.number for row, _ in equal}
    rest = [row for row in train if row.number not in gone]
    near = _near(rest, held, data.near_threshold)
    across: Found = [(a, _like(a, b)) for a, b in equal]
    across_near: Found = [(a, _like(a, b, alike)) for a, b, alike in near]
    if (across or across_near) and data.duplicates == "refuse":
        raise Refusal(
            f"{data.source}: {len(across) + len(across_near)} questions to train on stand among "
            "the probes too",
            [f"row {row.number} is asked {told}" for row, told in (*across, *across_near)],
            "correct the splits, or have them removed from training: --set data.duplicates=remove",
        )
    gone |= {row.number for row, _ in across_near}
    kept = tuple(row for row in train if row.number not in gone)
    done = (
        _done("across", across, "rows removed from training, their question being a probe's"),
        _done("across_near", across_near, "rows removed from training, nearly a probe's question"),
        _inside(kept, data.near_threshold),
    )
    return replace(source, train=kept, held=tuple(held), done=(*source.done, *done))


def check_lengths(rows: Sequence[Row], prompts: Encodes, config: RunConfig, context: int) -> None:
    """Refuse rows that cannot be attempted, or shown as a parent, within the context.

    A row must leave room for the longest attempt, for the longest proposal, and for reasoning
    beside its reference. context: tokens that the model can read. Raises Refusal.
    """
    found = [_too_long(row, prompts, config, context) for row in rows]
    problems = [
        f"row {row.number}: {told}, the model reads {context}"
        for row, told in zip(rows, found, strict=True)
        if told
    ]
    if problems:
        raise Refusal(
            f"{len(problems)} of {len(rows)} rows do not fit the model's context",
            problems,
            "shorten or remove them, have them dropped (--set data.too_long=drop), lower "
            "solver.max_tokens or generator.max_tokens, or use a model with a longer context",
        )


def _too_long(row: Row, prompts: Encodes, config: RunConfig, context: int) -> str:
    """What of the row takes more tokens than the model reads; "" where all fits."""
    asked, answered = len(prompts.attempt(row.question)), len(prompts.answer(row.reference))
    shown = len(prompts.proposal(row.question))
    if asked + answered >= context:
        return f"question and reference take {asked} + {answered} tokens"
    if asked + config.solver.max_tokens > context:
        return f"question and solver.max_tokens are {asked} + {config.solver.max_tokens} tokens"
    if shown + config.generator.max_tokens > context:
        longest = config.generator.max_tokens
        return f"as a parent, question and generator.max_tokens are {shown} + {longest} tokens"
    return ""


Sides = list[list[Row]]
Found = list[tuple[Row, str]]  # a row, and what is told of it


def _strip(sides: Sides, config: DataConfig) -> tuple[Sides, list[Done]]:
    if config.strip == "never":
        return sides, []
    found: Found = []
    tags: Counter[str] = Counter()

    def bare(row: Row) -> Row:
        stripped = strip_skeleton(row.question)
        if stripped is None:
            return row
        found.append((row, _short(stripped.question)))
        tags.update([" ".join(f"<{tag}>" for tag in stripped.tags)])
        return replace(row, question=stripped.question)

    stripped = [[bare(row) for row in side] for side in sides]
    named = ", ".join(f"{name} in {count}" for name, count in tags.most_common(3))
    told = f"questions, of an instruction and a tag skeleton ({named})"
    return stripped, [_done("stripped", found, told)]


def _convert(sides: Sides, config: DataConfig) -> tuple[Sides, list[Done]]:
    if config.choices == "keep":
        return sides, []
    found: Found = []

    def converted(row: Row) -> Row:
        brought = tuple(letter_text(row.question, one)[0] for one in row.references)
        if brought == row.references:
            return row
        found.append((row, f"{_short(row.reference)} -> {_short(brought[0])}"))
        first, *others = dict.fromkeys(brought)
        return replace(row, reference=first, other_references=tuple(others))

    told = "references, from a letter or an option's text to both"
    return [list(map(converted, side)) for side in sides], [_done("converted", found, told)]


def _merge(sides: Sides, config: DataConfig) -> tuple[Sides, list[Done]]:
    merged = [merge(side, config.conflicts) for side in sides]
    rows = {row.number: row for side in sides for row in side}
    repeats = [(rows[a], rows[b]) for one in merged for a, b in one.repeats]
    conflicts = [(rows[a], rows[b]) for one in merged for a, b in one.conflicts]
    kept = "all of them kept" if config.conflicts == "several" else "the first kept"
    done = [
        _done(
            "merged", [(a, _like(a, b)) for a, b in repeats], "rows, whose question stood before"
        ),
        _done(
            "conflicting",
            [(a, f"{_short(a.reference)}; row {b.number}: {b.reference}") for a, b in conflicts],
            f"of those, with another reference; {kept}",
        ),
    ]
    return [list(one.rows) for one in merged], done


def _bracketed(sides: Sides) -> Done:
    """References with angle brackets: text like any other, unless they are the run's own tags."""
    found = [(row, _short(row.reference)) for side in sides for row in side if _in_brackets(row)]
    return _done("bracketed", found, "references with angle brackets; kept as they are")


def _in_brackets(row: Row) -> bool:
    return any(sign in one for one in row.references for sign in "<>")


def _check_tags(rows: Sequence[Row], tags: TagsConfig) -> None:
    """Refuse references that no well-formed attempt could give: its own tags would end it."""
    own = [f"<{slash}{name}>" for name in (tags.reasoning, tags.answer) for slash in ("", "/")]
    problems = [
        f"row {row.number}: the reference holds {tag}"
        for row in rows
        for tag in own
        if any(tag in one for one in row.references)
    ]
    if problems:
        raise Refusal(
            f"{len(problems)} references hold a tag of the run's own",
            problems,
            "correct them, or rename the tags: tags.reasoning, tags.answer",
        )


def _near(train: Sequence[Row], held: Sequence[Row], threshold: float) -> list[Alike]:
    if threshold == 0:
        return []
    pairs = nearest_pairs([r.question for r in train], [r.question for r in held], threshold)
    return [(train[a], held[b], alike) for a, b, alike in pairs]


def _inside(train: Sequence[Row], threshold: float) -> Done:
    pairs = earlier_pairs([row.question for row in train], threshold) if threshold else []
    found = [(train[a], _like(train[a], train[b], alike)) for a, b, alike in pairs]
    return _done("near", found, "rows to train on, near-duplicates of others there; kept")


def _done(name: str, found: Found, told: str) -> Done:
    return Done(name, len(found), told, tuple((row.number, text) for row, text in found[:SHOWN]))


def _like(row: Row, other: Row, alike: float = 1.0) -> str:
    return f"as row {other.number} ({alike:.2f}): {_short(row.question)}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 100 else flat[:97] + "..."


def _shared(found: Sequence[Numbered], config: DataConfig) -> dict[str, int]:
    """By two splits' names: how many rows of the first ask what stands in the second too."""
    texts: dict[str, list[str]] = {}
    for row in found:
        texts.setdefault(row.split or "", []).append(normalise(str(row.cells.get(config.question))))
    return {
        f"{one} in {other}": count
        for n, one in enumerate(texts)
        for other in list(texts)[n + 1 :]
        if (count := sum(map(set(texts[other]).__contains__, texts[one])))
    }
