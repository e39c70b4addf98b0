"""What is left of a run that could not come alive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flows.assemble import assemble
from flows.settings import load_config
from pipeline.engine.parity import EngineMismatch
from store import questions
from store.parities import parities
from tests.flows.scripted import Bench
from tests.pipeline.test_served import FAKE, left


def interpreter(folder: Path) -> Path:
    """What engine.python names: it runs a program of its own, and leaves its process's number."""
    program, named = folder / "fake.py", folder / "python"
    program.write_text(FAKE.replace("TRICKS", "()"))
    named.write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec {sys.executable} {program}\n")
    named.chmod(0o700)
    return named


def test_a_scorer_refused_before_the_parts_are_there_is_told_of_and_ended(tmp_path: Path) -> None:
    changes = ["engine.scorer=vllm", f"engine.python={interpreter(tmp_path)}"]
    bench = Bench(tmp_path / "home", load_config(None, changes), assembled=assemble)
    with pytest.raises(EngineMismatch, match="vllm does not answer as proxy@0"):
        bench.go_on()
    assert left(int((tmp_path / "pid").read_text())) == []
    [row] = parities(bench.store, bench.run)
    assert (row["line"], row["version"], row["accepted"]) == ("proxy", "proxy@0", False)
    [run] = questions.runs(bench.store)
    assert run["status"] == "failed"
