"""Where rows may come from beside one file: folders, databases, columns of any name."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from sqlalchemy import create_engine, text

from flows.errors import Refusal
from flows.sources.rows import read_rows, read_source
from pipeline.config import DataConfig
from pipeline.environments.table import Row


def source(place: str | Path, **more: str) -> DataConfig:
    return DataConfig.model_validate({"source": str(place), **more})


def database(file: Path, *statements: str) -> str:
    url = f"sqlite:///{file}"
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
    return url


def test_a_folder_of_datasets_is_read_by_its_splits(tmp_path: Path) -> None:
    one = Dataset.from_list([{"prompt": "a", "reference": "1"}, {"prompt": "b", "reference": "2"}])
    one.save_to_disk(str(tmp_path / "one"))
    assert read_rows(source(tmp_path / "one")) == [Row(1, "a", "1"), Row(2, "b", "2")]
    both = DatasetDict(train=one, test=Dataset.from_list([{"prompt": "c", "reference": "NA"}]))
    both.save_to_disk(str(tmp_path / "both"))
    assert read_rows(source(tmp_path / "both", split="test")) == [Row(3, "c", "NA")]
    found = read_source(source(tmp_path / "both", probe_split="test"))
    assert ([r.number for r in found.train], [r.number for r in found.held]) == ([1, 2], [3])
    assert found.splits == {"train": 2, "test": 1}


def test_a_folder_that_datasets_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no folder that datasets' save_to_disk wrote"):
        read_rows(source(tmp_path))


def test_a_table_is_read_by_its_key_and_to_the_letter(tmp_path: Path) -> None:
    url = database(
        tmp_path / "a b%20.db",
        "CREATE TABLE asked (id INTEGER PRIMARY KEY, q TEXT, a TEXT, part TEXT)",
        "INSERT INTO asked VALUES (9, 'x', '007', 'test'), (2, 'y', 'NA', 'train')",
        "INSERT INTO asked VALUES (1, 'é', 'null', 'train')",
    )
    named = {"table": "asked", "question": "q", "reference": "a", "split_column": "part"}
    assert read_rows(source(url, **named)) == [Row(1, "é", "null"), Row(2, "y", "NA")]
    assert read_rows(source(url, split="test", **named)) == [Row(3, "x", "007")]


def test_a_table_without_a_key_gives_the_same_numbers_whatever_its_order(tmp_path: Path) -> None:
    made = "CREATE TABLE t (prompt TEXT, reference TEXT)"
    one = database(tmp_path / "1.db", made, "INSERT INTO t VALUES ('b', '2'), ('a', '1')")
    two = database(tmp_path / "2.db", made, "INSERT INTO t VALUES ('a', '1'), ('b', '2')")
    found = [read_rows(source(url, table="t")) for url in (one, two)]
    assert found[0] == found[1] == [Row(1, "a", "1"), Row(2, "b", "2")]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", r"data.table is not set; there are t\n.*data.table=NAME"),
        ("t; DROP TABLE t", "no table 't; DROP TABLE t'; there are t"),
        ("u", "no table 'u'; there are t"),
    ],
)
def test_a_table_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, table: str, told: str
) -> None:
    url = database(tmp_path / "a.db", "CREATE TABLE t (prompt TEXT, reference TEXT)")
    with pytest.raises(Refusal, match=told):
        read_rows(source(url, table=table))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////no/where.db", "there is no such file"),
        ("what://x/y", "no address that can be opened"),
        ("postgresql://me:secret@localhost/x", "holds a password"),
        ("postgresql://localhost:1/x", "cannot be read"),
    ],
)
def test_a_database_that_cannot_be_read_is_refused(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(Refusal, match=told) as caught:
        read_rows(source(url, table="t"))
    assert "secret" not in str(caught.value)


def test_a_number_in_a_table_is_refused_as_in_a_file(tmp_path: Path) -> None:
    url = database(
        tmp_path / "a.db",
        "CREATE TABLE t (prompt TEXT, reference INTEGER)",
        "INSERT INTO t VALUES ('a', 7)",
    )
    with pytest.raises(Refusal, match=r"row 1: the reference .* is no text but int '7'"):
        read_rows(source(url, table="t"))
    assert (tmp_path / "a.db").exists()


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("q,a,part\nx,1,dev\ny,2,test\n")
    named = {"question": "q", "reference": "a", "split_column": "part", "split": "dev"}
    assert read_rows(source(file, **named)) == [Row(2, "x", "1")]
    assert read_rows(source(file, question="q", reference="a")) == [
        Row(2, "x", "1"),
        Row(3, "y", "2"),
    ]
