"""Rows of a CSV, JSONL or Parquet file or of a Hub data set, or every problem by its row number.

CSV and JSONL are read to the letter with the standard library, since a table reader would turn
the reference "NA" into nothing and "007" into 7; Parquet and Hub names go through `datasets`.
Nothing is cut or dropped: one bad row refuses the file.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from flows.errors import Refusal
from pipeline.config import DataConfig, RunConfig
from pipeline.environments.table import Row

LARGEST_CELL = 1_000_000  # characters
SPLIT = "split"  # a column of this name says which rows to use
Cells = dict[str, object]


class Encodes(Protocol):
    """How much room texts take in the model's context; `agents.prompts.Prompts` fills it."""

    def attempt(self, question: str) -> tuple[int, ...]: ...

    def proposal(self, parent: str) -> tuple[int, ...]: ...

    def answer(self, text: str) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A row's number as the file shows it (a CSV's header is row 1), with its cells."""

    number: int
    cells: Cells


def read_rows(config: DataConfig) -> list[Row]:
    """Every row of the source's split. Raises Refusal with the first ten problems and their count.

    A file with a column named "split" gives the rows whose split is the configured one.
    """
    source, found = config.source, _load(config)
    _check_columns(found, config)
    rows = [_text_row(one, config) for one in found]
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
            "shorten or remove them, lower solver.max_tokens or generator.max_tokens, or use a "
            "model with a longer context",
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


def _load(config: DataConfig) -> list[_Numbered]:
    path = Path(config.source).expanduser()
    readers: dict[str, Callable[[Path], Iterator[_Numbered]]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None and path.exists():
        raise Refusal(
            f"data.source {config.source}: a {path.suffix or 'file without an ending'}, expected "
            "a .csv, .jsonl or .parquet file"
        )
    if reader is None:
        return list(_read_hub(config))
    if not path.is_file():
        raise Refusal(f"data.source {path}: there is no such file", remedy="check data.source")
    return _of_split(list(reader(path)), config)


def _of_split(rows: list[_Numbered], config: DataConfig) -> list[_Numbered]:
    if not any(SPLIT in row.cells for row in rows):
        return rows
    chosen = [row for row in rows if row.cells.get(SPLIT) == config.split]
    if not chosen:
        there = Counter(str(row.cells.get(SPLIT)) for row in rows)
        listed = ", ".join(f"{name} ({count})" for name, count in there.most_common(8))
        raise Refusal(
            f"{config.source}: no row has split {config.split!r}; there are {listed}",
            remedy="name one of them with --set data.split=NAME",
        )
    return chosen


def _check_columns(rows: Sequence[_Numbered], config: DataConfig) -> None:
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


def _columns(config: DataConfig) -> tuple[tuple[str, str], ...]:
    return ("question", config.question), ("reference", config.reference)


def _text_row(row: _Numbered, config: DataConfig) -> Row | str:
    """The row's question and reference, or what is wrong with it."""
    texts = []
    for what, column in _columns(config):
        if column not in row.cells:
            return f"row {row.number}: the {what} ({column!r}) is missing"
        value = row.cells[column]
        wrong = _wrong(value)
        if wrong:
            return f"row {row.number}: the {what} ({column!r}) {wrong}"
        texts.append(str(value))
    return Row(row.number, texts[0], texts[1])


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


def _read_csv(path: Path) -> Iterator[_Numbered]:
    csv.field_size_limit(2 * LARGEST_CELL)
    rows = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    header: list[str] = []
    try:
        for number, cells in enumerate(rows, 1):
            if not header:
                header = _header(path, cells)
            elif cells:
                if len(cells) != len(header):
                    raise Refusal(
                        f"{path}: row {number} has {len(cells)} cells, the header {len(header)}",
                        remedy='quote cells that hold a comma or a line break: "like, this"',
                    )
                yield _Numbered(number, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise Refusal(f"{path}: near line {rows.line_num}: {error}") from error


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise Refusal(
            f"{path}: the column {twice[0]!r} is there more than once", remedy="rename one of them"
        )
    return list(cells)


def _read_jsonl(path: Path) -> Iterator[_Numbered]:
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise Refusal(
                f"{path}: line {number} is not one JSON object: {str(error)[:200]}"
            ) from error
        if not isinstance(row, dict):
            raise Refusal(f"{path}: line {number} is a {type(row).__name__}, expected an object")
        yield _Numbered(number, row)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, object]]) -> Cells:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice in it")
    return row


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Refusal(
            f"{path}: line {line} is not UTF-8 (byte {data[error.start]:#04x})",
            remedy="save the file as UTF-8",
        ) from error


def _read_parquet(path: Path) -> Iterator[_Numbered]:
    from datasets import load_dataset  # noqa: PLC0415 - a second to import, for few sources

    try:
        rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for number, cells in enumerate(rows, 1):
            yield _Numbered(number, cast(Cells, cells))
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(f"{path}: cannot be read as Parquet: {str(error)[:300]}") from error


def _read_hub(config: DataConfig) -> Iterator[_Numbered]:
    from datasets import load_dataset  # noqa: PLC0415 - a second to import, for few sources

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    try:
        rows = load_dataset(config.source, split=config.split)
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(
            f"data.source {config.source!r}: neither a file here nor a data set that the Hub "
            f"gave: {str(error).splitlines()[0][:200]}",
            remedy="check the path, the name, data.split and the network; 'world' needs none",
        ) from error
    for number, cells in enumerate(rows, 1):
        yield _Numbered(number, cast(Cells, cells))
