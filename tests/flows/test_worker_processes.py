"""Workers as processes of their own: killed, frozen and sent home."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.hands import sweep
from flows.home import Home
from pipeline.files.checkpoint import TEMPORARY
from store import invariants
from tests.study_workers import QUEUED, SHARED, Plan, Site, crowd

BRIEF = ["rounds=1", "steps=1"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_processes_killed_and_frozen_over_their_items_leave_the_chain_of_a_run_alone(
    tmp_path: Path,
) -> None:
    alone, site = (
        Site(tmp_path / name, str(tmp_path / name / "coclimb.db"), [*settings, *BRIEF])
        for name, settings in (("alone", SHARED), ("crowd", [*QUEUED, "work.helps=false"]))
    )
    assert alone.ask().wait() == 0
    plan = Plan(kills=1, zombies=1, askers=0, rng=random.Random(0))
    told, broken = crowd(site, plan, 2)
    assert plan.over
    assert site.chain() == alone.chain()
    assert told.redone <= broken == 2
    assert told.workers >= 2
    assert invariants.verify(site.store, None, site.folder)["violations"] == []


def test_what_a_killed_worker_left_is_swept_and_what_a_living_one_reads_is_not(
    tmp_path: Path,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    dead = [f"{here}-{gone.pid}-abcdef.safetensors"]
    stay = [f"{here}-{os.getpid()}-abcdef.safetensors"]
    stay += [f"{host}-{gone.pid}-abcdef.safetensors" for host in ("elsewhere", f"{here}-a")]
    for names in (dead, stay):
        names += [f"{TEMPORARY}{name}-01abcdef" for name in names]
        for name in names:
            (scratch / name).write_bytes(b"half")
    sweep(Home(tmp_path, ""))
    assert {path.name for path in scratch.iterdir()} == set(stay)
