"""`coclimb export`: every listing, in every form, with a card, and truth only where asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset, load_from_disk

from flows.live import Live
from flows.looks.exporting import QUERIES
from flows.stages import run_stages
from pipeline.config import RunConfig
from pipeline.parity import Figures, Limits, Parity
from pipeline.types import Task
from store.database import Store
from store.leases import acquire_lease
from store.ledger import NewRun, Truth, create_run, record_seed_tasks, record_truth
from tests.flows.scripted import SMALL, Bench
from tests.flows.test_cli import coclimb

TASKS = [
    Task("row-1", "How much?", "4", "human", other_references=("four",)),
    Task("row-2", "A | pipe,\nand a line?", 'a "quoted" é', "human"),
    Task("row-3", "Which?", "B. this", "document"),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a run "told" that has three seed tasks, one of them told of by truth."""
    folder = tmp_path / "home"
    store = Store.open(str(folder / "coclimb.db"))
    config = '{"data": {"source": "mine.csv"}}'
    run = create_run(store, NewRun(config, "c" * 64, {}, 1, 1, name="told", id="told"))
    lease = acquire_lease(store, run, "teller", 600)
    record_seed_tasks(store, lease, TASKS)
    record_truth(store, lease, 0, [Truth("task", "row-1", True, "rule")])
    store.close()
    return folder


def export(home: Path, to: Path, *more: str, code: int = 0) -> str:
    done = coclimb(home, "export", "told", "--what", "tasks", "--to", str(to), *more, code=code)
    assert done.stdout == ""
    return done.stderr


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_listing_is_written_whole_with_its_card(home: Path, tmp_path: Path) -> None:
    said = export(home, tmp_path / "out" / "tasks.jsonl")
    assert "wrote 3 rows to" in said
    found = {str(row["id"]): row for row in lines(tmp_path / "out" / "tasks.jsonl")}
    assert {(t.id, t.question, t.reference) for t in TASKS} == {
        (row["id"], row["question"], row["reference"]) for row in found.values()
    }
    assert found["row-1"]["other_references"] == ["four"]
    card = (tmp_path / "out" / "tasks.jsonl.README.md").read_text()
    for fact in (
        "| run | told |", "| configuration (SHA-256) | " + "c" * 64, "| tasks from | mine.csv |",
        "| query | tasks |", "| rows | 3 |", "| columns told by truth | left out |",
        "| document 1, human 2 |", "No licence is stated",
    ):  # fmt: skip
        assert fact in card, fact
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "tasks.jsonl",
        "tasks.jsonl.README.md",
    ]


def test_parquet_and_a_folder_hold_the_same_rows(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "a.jsonl")
    export(home, tmp_path / "a.parquet")
    export(home, tmp_path / "folder")
    plain = lines(tmp_path / "a.jsonl")
    expected = [
        {**row, "other_references": row["other_references"] and json.dumps(row["other_references"])}
        for row in plain
    ]
    cache = str(tmp_path / "cache")
    file = str(tmp_path / "a.parquet")
    parquet = load_dataset("parquet", data_files=file, split="train", cache_dir=cache)
    assert list(parquet) == expected
    assert list(load_from_disk(str(tmp_path / "folder"))) == expected
    assert "license: unknown" in (tmp_path / "folder" / "README.md").read_text()


def test_truth_goes_along_only_where_it_is_asked_for(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "without.jsonl")
    export(home, tmp_path / "with.jsonl", "--truth")
    assert not any("right" in row for row in lines(tmp_path / "without.jsonl"))
    told = {row["id"]: row["right"] for row in lines(tmp_path / "with.jsonl")}
    assert told == {"row-1": True, "row-2": None, "row-3": None}
    assert "| columns told by truth | right |" in (tmp_path / "with.jsonl.README.md").read_text()


def test_a_filter_narrows_what_is_written_and_the_card_says_so(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "a.jsonl", "--origin", "document")
    assert [row["id"] for row in lines(tmp_path / "a.jsonl")] == ["row-3"]
    assert "| query | tasks, origin=document |" in (tmp_path / "a.jsonl.README.md").read_text()


@pytest.mark.parametrize(
    ("to", "more", "told"),
    [
        ("a.csv", [], "expected a .jsonl or .parquet file, or a new folder's name"),
        ("there.jsonl", [], "is there already"),
        ("carded.jsonl", [], "carded.jsonl.README.md is there already"),
        ("a.jsonl", ["--what", "task"], "expected one of tasks, rollouts"),
        ("a.jsonl", ["--what", "syncs", "--round", "1"], "--round says nothing of syncs"),
        ("a.jsonl", ["--origin", "humn"], "did you mean human?"),
        ("a.jsonl", ["--origin", "rule"], "has no tasks of that kind: nothing was written"),
    ],
)
def test_what_cannot_be_exported_writes_nothing(
    home: Path, tmp_path: Path, to: str, more: list[str], told: str
) -> None:
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "carded.jsonl.README.md").write_text("mine")
    before = sorted(tmp_path.iterdir())
    assert told in export(home, tmp_path / to, *more, code=2)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.jsonl").read_text() == "mine"


def test_every_listing_of_a_run_can_be_written_in_every_form(tmp_path: Path) -> None:
    tree = SMALL.model_dump(mode="json") | {"verifier": {"also": ["vote"]}}
    bench = Bench(tmp_path / "home", RunConfig.model_validate(tree))

    def compared(live: Live) -> None:
        figures = Figures(9, 0.0, 0.0, None)
        limits = Limits(1e-4, 0.05)
        live.parts.parities.append(Parity("x", "solver", "solver@0", 0, figures, limits, True))
        run_stages(live)

    bench.go_on(work=compared)
    bench.store.close()
    for what in QUERIES:
        for form in (".jsonl", ".parquet", ""):
            to = tmp_path / f"{what}{form}"
            arguments = ["export", bench.run, "--what", what, "--to", str(to)]
            coclimb(tmp_path / "home", *arguments)
        rows = lines(tmp_path / f"{what}.jsonl")
        assert len(load_from_disk(str(tmp_path / what))) == len(rows) > 0
        assert not {"right", "per_task"} & set(rows[0])


def test_what_was_exported_can_be_imported(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "tasks")
    sets = ["--set", "data.question=question", "--set", "data.probe_share=0.5"]
    told = json.loads(coclimb(home, "import", str(tmp_path / "tasks"), *sets, "--json").stdout)
    assert told["done"][0] == {
        "name": "read", "count": 3, "told": "of 3 rows in the source", "examples": [],
    }  # fmt: skip
