from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.assemble import assemble
from flows.errors import Refusal
from flows.sources.rows import check_lengths, read_rows
from pipeline.config import DataConfig, GeneratorConfig, RunConfig
from pipeline.environments.table import Row


def rows_of(file: Path, data: bytes | str, **more: str) -> list[Row]:
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_rows(DataConfig(source=str(file), **more))


def test_cells_come_through_to_the_letter(tmp_path: Path) -> None:
    text = 'id,prompt,reference\n1,"a, ""b""\nc",NA\n2,q,007\n3,é\u200b\u202e,null\n'
    assert rows_of(tmp_path / "a.csv", text) == [
        Row(2, 'a, "b"\nc', "NA"),
        Row(3, "q", "007"),
        Row(4, "é\u200b\u202e", "null"),
    ]
    lines = '{"q": "x", "a": "1"}\n\n{"q": "y", "a": "2", "more": [1]}\n'
    named = {"question": "q", "reference": "a"}
    expected = [Row(1, "x", "1"), Row(3, "y", "2")]
    assert rows_of(tmp_path / "a.jsonl", lines, **named) == expected


def test_parquet_is_read_too(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b"], "reference": ["1", "2"]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read_rows(DataConfig(source=str(tmp_path / "a.parquet")))
    assert found == [Row(1, "a", "1"), Row(2, "b", "2")]


def test_a_split_column_chooses_the_rows(tmp_path: Path) -> None:
    text = "prompt,reference,split\na,1,train\nb,2,test\n"
    assert rows_of(tmp_path / "a.csv", text, split="test") == [Row(3, "b", "2")]
    with pytest.raises(Refusal, match=r"no row has split 'dev'; there are train \(1\), test \(1\)"):
        rows_of(tmp_path / "a.csv", text, split="dev")


HEAD = "prompt,reference\n"


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", "prompt,answer\nq,a\n", r"'prompt', 'answer'[\s\S]*--set data.reference=COLUMN"),
        ("a.csv", HEAD + "q,\n", r"row 2: the reference \('reference'\) is empty"),
        ("a.csv", HEAD + "q,a\nq,   \n", "1 of 2 rows.*\n.*row 3: the reference.*blank"),
        ("a.csv", HEAD + ",a\n", "row 2: the question .* is empty"),
        ("a.csv", "prompt,prompt\nq,a\n", "column 'prompt' is there more than once"),
        ("a.csv", HEAD + "q,a,b\n", "row 2 has 3 cells, the header 2"),
        ("a.csv", HEAD + '"q,a\n', "near line 2"),
        ("a.csv", HEAD.encode() + b"q,\xff\n", r"line 2 is not UTF-8 \(byte 0xff\)"),
        ("a.csv", "", "there is no row in it"),
        ("a.jsonl", '{"prompt": "q", "reference": null}', "row 1: the reference .* is null"),
        ("a.jsonl", '{"prompt": ["q"], "reference": "a"}', "is no text but list"),
        ("a.jsonl", '{"prompt": "\\ud800", "reference": "a"}', "lone surrogate"),
        ("a.jsonl", '{"prompt": "q", "reference": NaN}', "line 1 .*NaN is no JSON"),
        ("a.jsonl", '{"prompt": "q", "prompt": "r"}', "a key stands twice"),
        ("a.jsonl", '{"prompt": "q", "ref', "line 1 is not one JSON object"),
        ("a.jsonl", '{"a":' * 100_000, "line 1 is not one JSON object"),
        ("a.jsonl", '{"prompt": ' + "9" * 5000 + "}", "line 1 is not one JSON object"),
        ("a.jsonl", "[1]", "expected an object"),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
        ("a.txt", "q", "expected a .csv, .jsonl or .parquet file"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_place(
    tmp_path: Path, name: str, data: bytes | str, told: str
) -> None:
    with pytest.raises(Refusal, match=told):
        rows_of(tmp_path / name, data)


def test_ten_problems_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="25 of 26 rows") as caught:
        rows_of(tmp_path / "a.csv", HEAD + "q,a\n" + "q,\n" * 25)
    assert str(caught.value).count("row ") == 10
    assert "... and 15 more" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"nowhere.csv: there is no such file"):
        read_rows(DataConfig(source=str(tmp_path / "nowhere.csv")))


class Letters:
    """A token per letter; a parent's prompt has two more."""

    def attempt(self, question: str) -> tuple[int, ...]:
        return (0,) * len(question)

    def proposal(self, parent: str) -> tuple[int, ...]:
        return (0,) * (len(parent) + 2)

    def answer(self, text: str) -> tuple[int, ...]:
        return (0,) * len(text)


def longest(attempt: int, proposal: int) -> RunConfig:
    return RunConfig.model_validate(
        {"solver": {"max_tokens": attempt}, "generator": {"max_tokens": proposal}}
    )


def test_a_reference_that_leaves_no_room_is_refused_never_cut() -> None:
    rows = [Row(2, "abc", "de"), Row(3, "abc", "d" * 20)]
    check_lengths(rows[:1], Letters(), longest(1, 1), 6)
    with pytest.raises(Refusal, match=r"row 3: question and reference take 3 \+ 20 tokens"):
        check_lengths(rows, Letters(), longest(1, 1), 6)


@pytest.mark.parametrize(
    ("attempt", "proposal", "told"),
    [
        (7, 5, ""),
        (8, 5, r"row 3: question and solver.max_tokens are 3 \+ 8 tokens, the model reads 10"),
        (7, 6, r"row 3: as a parent, question and generator.max_tokens are 5 \+ 6 tokens"),
    ],
)
def test_a_row_leaves_room_for_the_longest_attempt_and_the_longest_proposal(
    attempt: int, proposal: int, told: str
) -> None:
    rows, config = [Row(2, "a", "b"), Row(3, "abc", "d")], longest(attempt, proposal)
    if not told:
        check_lengths(rows, Letters(), config, 10)
        return
    with pytest.raises(Refusal, match=told) as caught:
        check_lengths(rows, Letters(), config, 10)
    assert "1 of 2 rows" in str(caught.value)
    assert "lower solver.max_tokens or generator.max_tokens" in str(caught.value)


def test_a_run_over_a_file_is_refused_before_its_base_is_copied(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEAD + "".join(f"How much is {n}?,{n}\n" for n in range(9)))
    config = RunConfig.model_validate({"data": {"source": str(file)}})
    assert assemble(config).crew.solver.fits("How much is 3?")
    tight = config.model_copy(update={"generator": GeneratorConfig(max_tokens=505)})
    with pytest.raises(Refusal, match=r"9 of 9 rows[\s\S]*row 2: as a parent, .*reads 512"):
        assemble(tight)
