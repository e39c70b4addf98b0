"""What the rules of the data do to rows: each thing is done, counted, and shown by example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from flows.errors import Refusal
from flows.sources.rows import Source, fit, keep_apart, read_rows, read_source
from pipeline.config import DataConfig, RunConfig
from pipeline.environments.table import Row, Table, merge
from tests.flows.test_data import Letters

SKELETON = (
    "\nQuestion: {}\n\nAnswer the question and return in the following format:\n\n"
    "<think>\n...\n</think>\n\n<answer>\n...\n</answer>\n"
)


def config(file: Path, rows: list[JsonValue], **more: object) -> RunConfig:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunConfig.model_validate({"data": {"source": str(file), **more}})


def asked(question: str, reference: JsonValue = "yes", split: str = "train") -> JsonValue:
    return {"prompt": question, "reference": reference, "split": split}


def counts(source: Source) -> dict[str, int]:
    return {one.name: one.count for one in source.done}


def test_skeletons_are_stripped_unless_told_otherwise(tmp_path: Path) -> None:
    rows = [asked(SKELETON.format("How much?")), asked("What is <think>?")]
    made = config(tmp_path / "a.jsonl", rows)
    found = read_source(made.data)
    assert [row.question for row in found.train] == ["How much?", "What is <think>?"]
    (read, stripped, *_) = found.done
    assert (read.count, stripped.count, stripped.examples) == (2, 1, ((1, "How much?"),))
    assert "<think> <answer> in 1" in stripped.told
    never = config(tmp_path / "a.jsonl", rows, strip="never")
    assert read_source(never.data).train[0].question == SKELETON.format("How much?")
    assert read_rows(made.data)[0].question == SKELETON.format("How much?")


def test_a_cell_may_hold_several_references(tmp_path: Path) -> None:
    made = config(tmp_path / "a.jsonl", [asked("a", ["1", "one", "1"]), asked("b", "2")])
    assert read_rows(made.data) == [Row(1, "a", "1", ("one",)), Row(2, "b", "2")]
    file = tmp_path / "a.csv"
    file.write_text("prompt,reference\na,1 | one\nb,2\n")
    apart = DataConfig(source=str(file), separator="|")
    assert read_rows(apart) == [Row(2, "a", "1", ("one",)), Row(3, "b", "2")]
    assert read_rows(DataConfig(source=str(file)))[0] == Row(2, "a", "1 | one")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ([], "is an empty list"),
        (["a", " "], "is blank"),
        (["a", None], "is null"),
        ([1], "no text"),
    ],
)
def test_a_list_with_something_that_is_no_reference_is_refused(
    tmp_path: Path, reference: list[JsonValue], told: str
) -> None:
    with pytest.raises(Refusal, match=f"row 1: the reference .* {told}"):
        read_rows(config(tmp_path / "a.jsonl", [asked("a", reference)]).data)


def test_any_reference_is_right_and_only_the_first_is_the_tasks_own() -> None:
    rows = [Row(n, f"question {n}", str(n), (f"number {n}",)) for n in range(1, 9)]
    made = Table(rows, RunConfig())
    item = made.exam().items[0]
    truth = made.exam().truth
    assert truth.right(item, item.other_references[0].upper())
    assert truth.right(item, item.reference)
    assert not truth.right(item, "")
    task = made.seed_tasks()[0]
    assert task.references == (task.reference, f"number {task.reference}")
    assert item.bare().references == ()


def test_letters_become_letter_and_text_where_asked_for(tmp_path: Path) -> None:
    question = "Which is red?\nA. snow\nB. blood"
    rows = [asked(question, "B"), asked("Now: " + question, ["snow", "A"]), asked("Why?", "B")]
    kept = read_source(config(tmp_path / "a.jsonl", rows).data)
    assert kept.train[0].reference == "B"
    found = read_source(config(tmp_path / "a.jsonl", rows, choices="letter_text").data)
    assert [row.references for row in found.train] == [("B. blood",), ("A. snow",), ("B",)]
    assert counts(found)["converted"] == 2
    assert found.done[2].examples[0] == (1, "B -> B. blood")


def test_options_of_a_column_are_put_below_the_question(tmp_path: Path) -> None:
    rows: list[JsonValue] = [
        {"prompt": "Which is red?", "reference": "blood", "more": ["snow", "blood"]},
        {"prompt": "Why?", "reference": "so", "more": None},
    ]
    made = config(tmp_path / "a.jsonl", rows, options="more", choices="letter_text")
    assert read_source(made.data).train == (
        Row(1, "Which is red?\n\nA. snow\nB. blood", "B. blood"),
        Row(2, "Why?", "so"),
    )
    many = config(tmp_path / "b.jsonl", [{**rows[0], "more": ["x"] * 27}], options="more")
    with pytest.raises(Refusal, match="row 1: 27 options, more than there are letters"):
        read_rows(many.data)


def test_a_question_that_stands_twice_is_one_row_with_every_reference_or_the_first() -> None:
    rows = [Row(1, "How much?", "4"), Row(2, "how  much", "four"), Row(3, "How much?", "4.")]
    several = merge(rows, "several")
    assert several.rows == (Row(1, "How much?", "4", ("four",)),)
    assert (several.repeats, several.conflicts) == (((2, 1), (3, 1)), ((2, 1),))
    first = merge(rows, "first")
    assert first.rows == (rows[0],)
    assert first.conflicts == several.conflicts


LONG = " ".join(f"word{n}" for n in range(100))


def crossing(file: Path, **more: object) -> RunConfig:
    rows = [
        asked("first"),
        asked(f"{LONG} end"),
        asked("Same?"),
        asked("last"),
        asked("same", split="test"),
        asked(LONG, split="test"),
        asked("other", split="test"),
    ]
    return config(file, rows, probe_split="test", **more)


def test_what_probes_ask_is_removed_from_training_and_never_from_the_probes(tmp_path: Path) -> None:
    made = crossing(tmp_path / "a.jsonl")
    found = keep_apart(read_source(made.data), made)
    assert [row.number for row in found.train] == [1, 4]
    assert {row.number for row in found.held} == {5, 6, 7}
    told = counts(found)
    assert (told["across"], told["across_near"], found.shared) == (1, 1, {"train in test": 1})
    assert len(Table(found.train, made, found.held).probe_questions()) == 3


def test_without_a_threshold_only_equal_questions_are_removed(tmp_path: Path) -> None:
    made = crossing(tmp_path / "a.jsonl", near_threshold=0.0)
    found = keep_apart(read_source(made.data), made)
    assert [row.number for row in found.train] == [1, 2, 4]


def test_duplicates_across_splits_refuse_the_source_where_that_is_the_rule(tmp_path: Path) -> None:
    made = crossing(tmp_path / "a.jsonl", duplicates="refuse")
    with pytest.raises(Refusal, match="2 questions to train on stand among") as caught:
        keep_apart(read_source(made.data), made)
    assert "row 3 is asked as row 5 (1.00): Same?" in caught.value.problems
    assert "row 2 is asked as row 6 (0.9" in str(caught.value)


def test_probes_cut_from_the_rows_have_no_near_copy_in_training(tmp_path: Path) -> None:
    rows = [asked(f"{LONG} {n}") for n in range(12)] + [asked(f"short {n}") for n in range(40)]
    made = config(tmp_path / "a.jsonl", rows)
    found = keep_apart(read_source(made.data), made)
    assert len(found.held) == 5
    held_long = [row for row in found.held if row.question.startswith("word0")]
    assert held_long
    assert not [row for row in found.train if row.question.startswith("word0")]
    assert counts(found)["across_near"] == 12 - len(held_long)
    again = Table(found.train, made, found.held)
    assert len(again.seed_tasks()) == len(found.train)


def test_near_duplicates_within_training_are_told_and_kept(tmp_path: Path) -> None:
    rows = [asked(f"{LONG} {n}") for n in (1, 2)] + [
        asked("x", split="test"),
        asked("y", split="test"),
    ]
    made = config(tmp_path / "a.jsonl", rows, probe_split="test")
    found = keep_apart(read_source(made.data), made)
    assert (len(found.train), counts(found)["near"]) == (2, 1)


def test_a_probe_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = config(tmp_path / "a.jsonl", [asked("a")], probe_split="dev")
    with pytest.raises(
        Refusal, match=r"no row has split 'dev'; there are train \(1\)[\s\S]*probe_"
    ):
        read_source(made.data)
    bare = config(tmp_path / "b.jsonl", [{"prompt": "a", "reference": "b"}], probe_split="dev")
    with pytest.raises(Refusal, match=r"names no splits"):
        read_source(bare.data)
    with pytest.raises(ValidationError, match="both 'train'"):
        DataConfig(probe_split="train")


def test_rows_too_long_refuse_the_source_or_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [asked(f"q{n}") for n in range(30)] + [asked("q" * 90)]
    more = {"solver": {"max_tokens": 5}, "generator": {"max_tokens": 5}}
    for rule in ("refuse", "drop"):
        made = config(tmp_path / "a.jsonl", rows, too_long=rule)
        made = RunConfig.model_validate({**made.model_dump(), **more})
        read = read_source(made.data)
        if rule == "refuse":
            with pytest.raises(Refusal, match=r"1 of 31 rows[\s\S]*row 31[\s\S]*too_long=drop"):
                fit(read, Letters(), made, 40)
            continue
        found = keep_apart(fit(read, Letters(), made, 40), made)
        assert len(found.train) + len(found.held) == 30
        (dropped,) = [one for one in found.done if one.name == "too_long"]
        assert dropped.count == 1
        assert dropped.examples == ((31, "question and reference take 90 + 3 tokens"),)
        assert f"too_long: 1 {dropped.told}" in found.told()


def test_references_with_brackets_are_counted_and_those_with_a_tag_of_the_run_refused(
    tmp_path: Path,
) -> None:
    rows = [asked(f"How much is {n}?", "x < 3") for n in range(4)]
    made = config(tmp_path / "a.jsonl", [*rows, asked("What ends it?", "</answer>")])
    source = read_source(made.data)
    assert counts(source)["bracketed"] == 5
    with pytest.raises(Refusal, match=r"row 5: the reference holds </answer>"):
        fit(source, Letters(), made, 10_000)
    renamed = made.model_copy(update={"tags": made.tags.model_copy(update={"answer": "final"})})
    assert len(fit(source, Letters(), renamed, 10_000).train) == 5
