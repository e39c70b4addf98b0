"""`coclimb import`: what is told of a source, made ones and the four real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.sources.rows import keep_apart, read_source
from pipeline.config import RunConfig
from pipeline.text.choices import options_of
from tests.flows.test_cli import coclimb
from tests.flows.test_rules import SKELETON
from tests.real import FILES, needs_real_data, real


def told(file: Path, *changes: str, code: int = 0) -> dict[str, Any]:
    sets = [part for change in changes for part in ("--set", change)]
    return json.loads(coclimb(file.parent, "import", str(file), *sets, "--json", code=code).stdout)


def counts(found: dict[str, Any]) -> dict[str, int]:
    return {one["name"]: one["count"] for one in found["done"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'my "data".jsonl'
    questions = [f"How much is {n} and {n}?" for n in range(20)]
    rows = [{"prompt": SKELETON.format(q), "reference": "so"} for q in questions]
    rows += [
        {"prompt": questions[3], "reference": "else"},
        {"prompt": "x " * 600, "reference": "y"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_everything_done_to_a_source_is_told_with_examples(file: Path) -> None:
    found = told(file, "data.too_long=drop")
    assert (found["splits"], found["shared"], found["refused"]) == ({"": 22}, {}, None)
    assert counts(found) == {
        "read": 22, "stripped": 20, "merged": 1, "conflicting": 1, "bracketed": 0, "too_long": 1,
        "across": 0, "across_near": 0, "near": 0,
    }  # fmt: skip
    assert found["train"] + found["probe"] == 20
    by_name = {one["name"]: one for one in found["done"]}
    assert by_name["conflicting"]["examples"] == [{"row": 21, "told": "else; row 4: so"}]
    assert by_name["too_long"]["examples"][0]["row"] == 22


def test_what_a_run_would_refuse_is_told_with_its_remedy(file: Path) -> None:
    found = told(file)
    assert "1 of 21 rows do not fit" in found["refused"]["what"]
    assert "data.too_long=drop" in found["refused"]["remedy"]
    said = coclimb(file.parent, "import", str(file)).stdout
    assert "a run would refuse this: 1 of 21 rows" in said
    assert "coclimb run" not in said


def test_the_plain_report_ends_with_the_command_that_begins(file: Path) -> None:
    said = coclimb(file.parent, "import", str(file), "--set", "data.too_long=drop").stdout
    assert "18 rows to train on, 2 to probe with" in said
    assert "     20 stripped     questions, of an instruction" in said
    assert "coclimb run --set 'data.source=" in said
    assert not (file.parent / "coclimb.db").exists()


def test_a_source_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    assert "no such file" in coclimb(tmp_path, "import", "/no/where.csv", code=2).stderr
    file = tmp_path / "a.csv"
    file.write_text("prompt,reference\nq,\n")
    assert "row 2: the reference" in coclimb(tmp_path, "import", str(file), code=2).stderr


def test_too_few_rows_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,reference\na,1\nb,2\n")
    assert "2 distinct questions" in told(file)["refused"]["what"]
    file.write_text("prompt,reference,split\na,1,train\nb,2,train\nc,3,test\n")
    assert "1 to hold out" in told(file, "data.probe_split=test")["refused"]["what"]


# rows read and stripped with `test` as probes; references converted; repeats in a side; across
REAL = {
    "nr": (3000, 0, 0, 0),
    "webit": (3000, 46, 35, 31),
    "emobench": (400, 0, 0, 0),
    "tombench": (2289, 0, 0, 0),
}


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_real_file_is_read_whole_and_stripped_to_the_last_row(name: str) -> None:
    data = {"source": str(real(name)), "probe_split": "test", "choices": "letter_text"}
    config = RunConfig.model_validate({"data": data})
    read = read_source(config.data)
    found = keep_apart(read, config)
    done = {one.name: one.count for one in found.done}
    rows, converted, merged, across = REAL[name]
    assert (done["read"], done["stripped"]) == (rows, rows)
    assert (done["converted"], done["merged"], done["across"]) == (converted, merged, across)
    assert sum(found.shared.values()) == (80 if name == "webit" else 0)
    for row in (*found.train, *found.held):
        assert "return in the following format" not in row.question
        assert row.question == row.question.strip()
        assert not row.question.startswith("Question:")


@needs_real_data
def test_angle_brackets_in_references_and_comma_joined_ones_come_through() -> None:
    brackets = 0
    for name in FILES:
        found = read_source(RunConfig.model_validate({"data": {"source": str(real(name))}}).data)
        brackets += sum("<" in row.reference or ">" in row.reference for row in found.train)
        if name == "emobench":
            assert sum(", Cause: " in row.reference for row in found.train) > 100
        if name == "tombench":
            for row in found.train:
                assert row.reference in row.question
                assert row.reference.rstrip() in {o.told() for o in options_of(row.question)}
    assert brackets > 50


@needs_real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_run_can_begin_on_a_real_file(name: str) -> None:
    refused = told(real(name))["refused"]
    assert "do not fit the model's context" in refused["what"]
    found = told(real(name), "data.too_long=drop")
    assert found["refused"] is None
    assert counts(found)["too_long"] > 0
    assert found["train"] > 10
    assert found["probe"] >= 2
