"""`coclimb workers`: who answers items, and what became of each run's."""

from __future__ import annotations

from dataclasses import asdict

from flows.home import Home
from flows.looks.listing import reading, table
from flows.looks.report import as_json, console
from store import questions
from store.database import Store
from store.questions import Answer
from store.work import listed_workers, tally

LATELY = 3600.0  # seconds since a worker was heard for which it is listed

# what fits on a terminal; --json has every column
WORKER_COLUMNS = ("name", "host", "pid", "heard", "items")
RUN_COLUMNS = (
    "run", "open", "claimed", "done", "failed", "dropped", "late", "foreign", "redone", "waited",
    "waited_99", "worked",
)  # fmt: skip


def list_workers(home: Home, run: str | None, *, every: bool, json: bool) -> None:
    """Workers that were heard lately, or ever, and the tally of one run or of all with items."""
    with reading(home) as store:
        workers = listed_workers(store, None if every else LATELY)
        names = [questions.resolve(store, run)] if run else _runs(store)
        tallies: list[Answer] = [{"run": name, **asdict(tally(store, name))} for name in names]
    if run is None:
        tallies = [row for row in tallies if any(row[key] for key in RUN_COLUMNS[1:6])]
    if json:
        print(as_json({"workers": workers, "runs": tallies}))
        return
    if workers:
        table(workers, WORKER_COLUMNS)
        console().print("heard: seconds ago; items: in its hands now", style="dim")
    else:
        console().print("no worker was heard" + ("" if every else " within the last hour"))
    if tallies:
        table(tallies, RUN_COLUMNS)
        console().print(
            "dropped: answered, and committed or of no use since; waited, waited_99, worked: "
            "seconds until the first claim (median, 99th percentile) and of all work", style="dim",
        )  # fmt: skip


def _runs(store: Store) -> list[str]:
    return [str(row["id"]) for row in questions.runs(store)]
