"""What `coclimb workers` tells of the queue, in a home made by hand."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from flows.cli import main
from pipeline.items import Item, WeightsFile
from store.database import Store
from store.leases import acquire_lease
from store.ledger import NewRun, create_run
from store.work import claim, finish, put

WEIGHTS = WeightsFile("w", "5" * 64, "solver@1")


def coclimb(home: Path, *arguments: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        main_of(home, *arguments)
    return out.getvalue()


def main_of(home: Path, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--home", str(home), *arguments])
    assert ended.value.code in (0, None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run "busy" with one item answered, one claimed and one open; a run that has none."""
    folder = tmp_path / "home"
    store = Store.open(str(folder / "coclimb.db"))
    create_run(store, NewRun("{}", "c" * 64, {}, 1, 1, name="quiet", id="quiet"))
    create_run(store, NewRun("{}", "c" * 64, {}, 1, 1, name="busy", id="busy"))
    lease = acquire_lease(store, "busy", "asker", 600)
    put(store, lease, [Item(name, WEIGHTS, "sample", 4, b"ask") for name in ("i", "j", "k")])
    one = claim(store, "gpu-0", 60)
    assert one is not None
    assert finish(store, one, b"told", WEIGHTS.sha256)
    assert not finish(store, one, b"otherwise", WEIGHTS.sha256)
    assert claim(store, "gpu-1", 60) is not None
    store.close()
    return folder


def told(home: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    return json.loads(coclimb(home, "workers", *arguments, "--json"))


def test_workers_and_the_runs_that_have_items_are_listed(home: Path) -> None:
    found = told(home)
    assert {row["name"]: row["items"] for row in found["workers"]} == {"gpu-0": 0, "gpu-1": 1}
    (busy,) = found["runs"]
    assert (busy["run"], busy["open"], busy["claimed"], busy["done"]) == ("busy", 1, 1, 1)
    assert (busy["late"], busy["foreign"], busy["redone"], busy["rows"]) == (1, 0, 0, 4)
    assert busy["waited"] <= busy["waited_99"]
    shown = coclimb(home, "workers")
    assert "gpu-0" in shown
    assert "waited_99" in shown


def test_one_run_is_told_of_though_it_has_no_items(home: Path) -> None:
    (quiet,) = told(home, "quiet")["runs"]
    assert (quiet["run"], quiet["open"], quiet["waited"]) == ("quiet", 0, None)


def test_workers_that_were_not_heard_lately_are_listed_when_all_are_asked_for(home: Path) -> None:
    store = Store.open(str(home / "coclimb.db"))
    with store.writing(None) as session:
        session.execute(text("UPDATE worker SET heard = heard - 7200"))
    store.close()
    assert told(home)["workers"] == []
    assert "no worker was heard within the last hour" in coclimb(home, "workers")
    assert len(told(home, "--all")["workers"]) == 2
