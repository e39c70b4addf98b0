"""A deployed run on a real server with a real worker: refused while it is owned, then climbed.

`tests/study_deploy.py` looks at schedules, two deployments, killed processes and killed servers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.deployment.firing import Firing, find_or_begin
from flows.home import Home
from flows.live import Place
from flows.owning import Owning
from flows.settings import build
from store import invariants, questions
from store.database import Store
from tests.deployments import LastingServer, coclimb, wait_for, working
from tests.study_kills import SHORT

BRIEF = [*SHORT, "rounds=1", "steps=1"]
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "CRASHED")
LONGEST = 300.0  # seconds that a brief flow may take on a busy machine


@pytest.mark.prefect
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_deployed_run_is_refused_while_it_is_owned_and_then_climbed(tmp_path: Path) -> None:
    server, folder = LastingServer(tmp_path / "prefect"), tmp_path / "home"
    folder.mkdir()
    home = Home(folder, str(folder / "coclimb.db"))
    store = Store.open(home.store)
    changes = [part for change in BRIEF for part in ("--set", change)]
    server.start()
    try:
        told = coclimb(server, folder, "deploy", *changes, "--name", "night")
        again = coclimb(server, folder, "deploy", *changes, "--name", "night")
        assert told == again
        assert "coclimb worker train" in told
        place = find_or_begin(Place(store, home, ""), Firing("night", build({}, BRIEF, "--set")))
        with working(server, folder, "train"):
            with Owning(store, place.run) as lease:
                refused = ended(server)
            assert (refused["type"], refused["name"]) == ("COMPLETED", "Refused")
            assert f"belongs to {lease.owner}" in refused["message"]
            climbed = ended(server)
        assert climbed["name"] == "Completed"
        assert climbed["message"] == f"run {place.run} has 1 of 1 rounds committed"
        assert questions.runs(store)[0]["status"] == "done"
        assert invariants.verify(store, None, folder)["violations"] == []
    finally:
        server.kill()
        store.close()


def ended(server: LastingServer) -> dict[str, str]:
    """How a firing by hand ends."""
    fired = server.fire("coclimb-climb/night")
    wait_for(lambda: server.state(fired)["type"] in ENDED, LONGEST, "the firing")
    return {key: str(value) for key, value in server.state(fired).items()}
