"""Where rows come from: a file, an Arrow folder, a database's table or a Hub data set.

CSV and JSONL are read to the letter with the standard library, since a table reader would turn
the reference "NA" into nothing and "007" into 7; a database is read through SQLAlchemy, and the
rest through `datasets`. Nothing is cut, dropped or converted here.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import (
    URL,
    Engine,
    MetaData,
    Select,
    Table,
    create_engine,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import Refusal
from pipeline.config import DataConfig

LARGEST_CELL = 1_000_000  # characters
Cells = dict[str, object]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A row's number as the source shows it (a CSV's header is row 1), its cells and its split.

    split  None where the source names no splits
    """

    number: int
    cells: Cells
    split: str | None = None


def load(config: DataConfig) -> list[Numbered]:
    """Every row of the source, of all the splits that come with it; of a Hub name the wanted ones.

    Raises Refusal for a source that is not there or cannot be read.
    """
    if "://" in config.source:
        return _by_column(list(_read_database(config)), config)
    path = Path(config.source).expanduser()
    reader = READERS.get(path.suffix.lower())
    if path.is_dir():
        return _by_column(list(_read_folder(path)), config)
    if reader is None and path.exists():
        raise Refusal(
            f"data.source {config.source}: a {path.suffix or 'file without an ending'}, expected "
            "a .csv, .jsonl or .parquet file"
        )
    if reader is None:
        return list(_read_hub(config))
    if not path.is_file():
        raise Refusal(f"data.source {path}: there is no such file", remedy="check data.source")
    return _by_column(list(reader(path)), config)


def _by_column(rows: list[Numbered], config: DataConfig) -> list[Numbered]:
    """The rows with the split that their own column names, where the source gave them none."""
    column = config.split_column
    if not any(column in row.cells for row in rows) or any(row.split for row in rows):
        return rows
    return [Numbered(row.number, row.cells, str(row.cells.get(column))) for row in rows]


def _read_csv(path: Path) -> Iterator[Numbered]:
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
                yield Numbered(number, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise Refusal(f"{path}: near line {rows.line_num}: {error}") from error


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    twice = [name for name, count in Counter(cells).items() if count > 1]
    if twice:
        raise Refusal(
            f"{path}: the column {twice[0]!r} is there more than once", remedy="rename one of them"
        )
    return list(cells)


def _read_jsonl(path: Path) -> Iterator[Numbered]:
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
        yield Numbered(number, row)


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


def _read_parquet(path: Path) -> Iterator[Numbered]:
    from datasets import load_dataset  # noqa: PLC0415 - a second to import, for few sources

    try:
        rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for number, cells in enumerate(rows, 1):
            yield Numbered(number, cast(Cells, cells))
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(f"{path}: cannot be read as Parquet: {str(error)[:300]}") from error


READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def _read_folder(path: Path) -> Iterator[Numbered]:
    """Rows of a Dataset or DatasetDict that `save_to_disk` wrote; numbered through its splits."""
    from datasets import DatasetDict, load_from_disk  # noqa: PLC0415 - a second to import

    try:
        found = load_from_disk(str(path))
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise Refusal(
            f"data.source {path}: no folder that datasets' save_to_disk wrote: {str(error)[:200]}",
            remedy="name the folder itself, or a .csv, .jsonl or .parquet file",
        ) from error
    parts = found.items() if isinstance(found, DatasetDict) else [(None, found)]
    yield from _numbered(parts)


def _numbered(parts: Iterable[tuple[str | None, Iterable[object]]]) -> Iterator[Numbered]:
    number = 0
    for split, rows in parts:
        for cells in rows:
            number += 1
            yield Numbered(number, cast(Cells, cells), split)


def _read_hub(config: DataConfig) -> Iterator[Numbered]:
    from datasets import load_dataset  # noqa: PLC0415 - a second to import, for few sources

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    wanted = [name for name in (config.split, config.probe_split) if name]
    try:
        parts = [(name, load_dataset(config.source, split=name)) for name in wanted]
    except (ValueError, OSError, RuntimeError) as error:
        raise Refusal(
            f"data.source {config.source!r}: neither a file here nor a data set that the Hub "
            f"gave: {str(error).splitlines()[0][:200]}",
            remedy="check the path, the name, the splits and the network; 'world' needs none",
        ) from error
    yield from _numbered(parts)


def _read_database(config: DataConfig) -> Iterator[Numbered]:
    """Rows of the configured table, of its mapped columns, by its primary key."""
    engine = _engine(config)
    try:
        wanted = _query(engine, config)
        with engine.connect() as connection:
            for number, row in enumerate(connection.execute(wanted).mappings(), 1):
                yield Numbered(number, dict(row))
    except SQLAlchemyError as error:
        raise Refusal(
            f"data.source {config.source}: cannot be read: {str(error).splitlines()[0][:300]}",
            remedy="check the address, the table and that the database is up",
        ) from error
    finally:
        engine.dispose()


def _engine(config: DataConfig) -> Engine:
    """Raises Refusal for an address that is none, names no file, or holds a password."""
    try:
        address = make_url(config.source)
        if address.password is not None:
            raise Refusal(
                "data.source holds a password, and settings are kept with the run",
                remedy="leave it out; PostgreSQL takes it from PGPASSWORD or ~/.pgpass",
            )
        if address.get_backend_name() == "sqlite":
            address = _read_only(config, Path(address.database or ""))
        elif address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        return create_engine(address)
    except (SQLAlchemyError, ImportError) as error:
        raise Refusal(
            f"data.source {config.source}: no address that can be opened: {error}",
            remedy="give sqlite:///FILE or postgresql://HOST/NAME",
        ) from error


def _read_only(config: DataConfig, file: Path) -> URL:
    if not file.expanduser().is_file():
        raise Refusal(f"data.source {config.source}: there is no such file")
    place = file.expanduser().absolute().as_uri()
    return URL.create("sqlite", database=place, query={"mode": "ro", "uri": "true"})


def _query(engine: Engine, config: DataConfig) -> Select[tuple[object, ...]]:
    schema, _, name = config.table.rpartition(".")
    found = inspect(engine)
    there = [*found.get_table_names(schema or None), *found.get_view_names(schema or None)]
    if name not in there:
        listed = ", ".join(sorted(there)[:20]) or "none"
        told = f"no table {config.table!r}" if config.table else "data.table is not set"
        raise Refusal(
            f"data.source {config.source}: {told}; there are {listed}",
            remedy="name one with --set data.table=NAME",
        )
    table = Table(name, MetaData(), schema=schema or None, autoload_with=engine)
    named = (config.question, config.reference, config.split_column, config.options)
    columns = [table.columns[one] for one in dict.fromkeys(named) if one in table.columns]
    # without a key the rows' own cells decide, so that numbers are the same in every reading
    order = list(table.primary_key.columns) or columns
    return select(*(columns or table.columns)).order_by(*order)
