"""A source's cells to rows: the chosen split, the mapped columns, text to the letter.

One cell that cannot be used refuses the source, and each is named by its row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flows.errors import Refusal
from flows.sources.origins import LARGEST_CELL, Numbered
from pipeline.config import DataConfig
from pipeline.environments.table import Row
from pipeline.text.choices import LETTERS, with_options


def rows_of(found: Sequence[Numbered], split: str, config: DataConfig) -> list[Row]:
    """The rows of a split, or all where the source names no splits; nothing in them is changed.

    Raises Refusal with the first ten problems and their count.
    """
    chosen = _of_split(found, split, config)
    source = config.source
    _check_columns(chosen, config)
    rows = [_text_row(one, config) for one in chosen]
    problems = [row for row in rows if isinstance(row, str)]
    if problems:
        raise Refusal(
            f"{source}: {len(problems)} of {len(rows)} rows cannot be used",
            problems,
            "correct or remove them; nothing is dropped in silence",
        )
    if not rows:
        raise Refusal(f"{source}: there is no row in it", remedy="add rows, or name another file")
    return [row for row in rows if isinstance(row, Row)]


def _of_split(rows: Sequence[Numbered], name: str, config: DataConfig) -> Sequence[Numbered]:
    if all(row.split is None for row in rows):
        if rows and config.probe_split:
            raise Refusal(
                f"{config.source} names no splits, so data.probe_split {config.probe_split!r} is "
                "none of them",
                remedy="name their column with --set data.split_column=COLUMN, or leave "
                "data.probe_split empty",
            )
        return rows
    chosen = [row for row in rows if row.split == name]
    if not chosen:
        there = Counter(str(row.split) for row in rows)
        listed = ", ".join(f"{name} ({count})" for name, count in there.most_common(8))
        key = "split" if name == config.split else "probe_split"
        raise Refusal(
            f"{config.source}: no row has split {name!r}; there are {listed}",
            remedy=f"name one of them with --set data.{key}=NAME",
        )
    return chosen


def _check_columns(rows: Sequence[Numbered], config: DataConfig) -> None:
    """Refuse a source in which a column that was asked for never stands."""
    there = list(dict.fromkeys(name for row in rows for name in row.cells))
    missing = [
        f"no column {column!r} for the {what}; name one with --set data.{what}=COLUMN"
        for what, column in _columns(config)
        if rows and column not in there
    ]
    if missing:
        listed = ", ".join(map(repr, there[:20]))
        raise Refusal(f"{config.source}: the columns are {listed}", missing)


def _columns(config: DataConfig) -> list[tuple[str, str]]:
    named = [("question", config.question), ("reference", config.reference)]
    return [*named, ("options", config.options)] if config.options else named


def _text_row(row: Numbered, config: DataConfig) -> Row | str:
    """The row's question and references, or what is wrong with it."""
    cells: dict[str, list[str]] = {}
    for what, column in _columns(config):
        if column not in row.cells:
            return f"row {row.number}: the {what} ({column!r}) is missing"
        value = row.cells[column]
        texts = _texts(value, what, config)
        empty = "" if texts or what == "options" else "is an empty list"
        wrong = next(filter(None, map(_wrong, texts)), empty)
        if wrong:
            return f"row {row.number}: the {what} ({column!r}) {wrong}"
        cells[what] = [str(one) for one in texts]
    options = cells.get("options", [])
    if len(options) > len(LETTERS):
        return f"row {row.number}: {len(options)} options, more than there are letters"
    (question,) = cells["question"]
    first, *others = dict.fromkeys(cells["reference"])
    asked = with_options(question, options) if options else question
    return Row(row.number, asked, first, tuple(others))


def _texts(value: object, what: str, config: DataConfig) -> list[object]:
    """What a cell holds: several texts where it is a list, or holds the separator."""
    if what == "question":
        return [value]
    if what == "options" and not value:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and config.separator and value.strip():
        return [part.strip() for part in value.split(config.separator)]
    return [value]


def _wrong(value: object) -> str:
    if value is None:
        return "is null"
    if not isinstance(value, str):
        return f"is no text but {type(value).__name__} {str(value)[:30]!r}"
    if not value.strip():
        return "is empty" if not value else "is blank"
    if len(value) > LARGEST_CELL:
        return f"has {len(value)} characters, more than {LARGEST_CELL}"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "holds half a character (a lone surrogate)"
    return ""
