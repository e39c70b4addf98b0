"""The program of a served engine's own process, over a vLLM of some lines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from pipeline.engine.served import PROGRAM
from tests.pipeline.test_served import left

Told = dict[str, object]

# vLLM as far as the program asks it to start, to say what it holds and to write one token
FAKE = """
import runpy, sys, types
from types import SimpleNamespace as Made

class Inner:
    def set_weight_version(self, version):
        self.version = version
    def get_weight_version(self):
        return self.version

class LLM:
    def __init__(self, folder, **settings):
        self.llm_engine = Inner()
    def collective_rpc(self, name, kwargs=None):
        return [{"tp0:norm.weight": "0"}]
    def generate(self, prompts, params, use_tqdm):
        logprobs = Made(token_ids=[7], logprobs=[-0.5])
        made = Made(
            token_ids=[7], logprobs=logprobs, finish_reason=ENDS,
            weight_versions=[Made(version=self.llm_engine.version)],
        )
        return [Made(outputs=[made]) for _ in prompts]

vllm = types.ModuleType("vllm")
vllm.LLM, vllm.SamplingParams, vllm.__version__ = LLM, Made, "0"
vllm.platforms = types.ModuleType("vllm.platforms")
vllm.platforms.current_platform = Made(is_cpu=lambda: PLACE == "cpu", device_type=PLACE)
sys.modules["vllm"], sys.modules["vllm.platforms"] = vllm, vllm.platforms
runpy.run_path(PROGRAM, run_name="__main__")
"""


SAMPLE: Told = {
    "do": "sample", "prompts": [[5]], "seeds": [[1]], "max_tokens": 1, "temperature": 1.0,
    "ends": [7], "number": 2,
}  # fmt: skip


def start(folder: Path) -> Told:
    """The first message; `folder` holds a scratch folder that is the asker's."""
    scratch = folder / "scratch"
    scratch.mkdir()
    return {
        "do": "start", "folder": "base", "device": "cpu", "dtype": "float32", "context": 40,
        "memory": 0.4, "seed": 0, "seconds": 60.0, "version": "solver@0", "scratch": str(scratch),
        "number": 1,
    }  # fmt: skip


class Child:
    """The program over the fake, as its asker sees it."""

    def __init__(self, folder: Path, *, ends: str = "stop", place: str = "cpu") -> None:
        """ends: vLLM's word for how its completions ended. place: what it was built for."""
        text = FAKE
        for name, value in (("PROGRAM", str(PROGRAM)), ("ENDS", ends), ("PLACE", place)):
            text = text.replace(name, repr(value))
        program = folder / "fake_vllm.py"
        program.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def hear(self) -> Told:
        """The next answer, {} where it ended instead."""
        assert self.process.stdout is not None
        told: Told = json.loads(self.process.stdout.readline() or "{}")
        return told

    def ask(self, message: Told) -> Told:
        self.tell(json.dumps(message) + "\n")
        return self.hear()

    def end(self) -> tuple[int, str]:
        """Its status and its last words, once its asker says no more."""
        try:
            _, said = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        return self.process.returncode, said.decode()


def test_it_ends_where_its_asker_ends_in_the_middle_of_a_message(tmp_path: Path) -> None:
    child = Child(tmp_path)
    assert child.ask(start(tmp_path))["version"] == "solver@0"
    child.tell('{"do": "sam')
    code, said = child.end()
    assert (code, said) == (0, "")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(("ends", "stop"), [("stop", "end"), ("length", "length")])
def test_a_completion_ends_as_vllm_says(tmp_path: Path, ends: str, stop: str) -> None:
    child = Child(tmp_path, ends=ends)
    child.ask(start(tmp_path))
    [row] = cast("list[Told]", child.ask(SAMPLE)["rows"])
    assert row == {"tokens": [7], "logprobs": [-0.5], "stop": stop}
    assert child.end() == (0, "")


@pytest.mark.parametrize("ends", ["abort", "error", "repetition"])
def test_a_completion_that_something_else_cut_short_is_none(tmp_path: Path, ends: str) -> None:
    child = Child(tmp_path, ends=ends)
    child.ask(start(tmp_path))
    assert child.ask(SAMPLE) == {}
    code, said = child.end()
    assert code == 1
    assert f"RuntimeError: vLLM ended a completion by '{ends}'" in said


@pytest.mark.parametrize(("asked", "place"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_vllm_for_another_device_than_the_models_is_refused(
    tmp_path: Path, asked: str, place: str
) -> None:
    child = Child(tmp_path, place=place)
    assert child.ask({**start(tmp_path), "device": asked}) == {}
    code, said = child.end()
    assert code == 1
    assert f"RuntimeError: this vLLM 0 runs on {place}, the run on {asked} (model.device);" in said


def test_a_vllm_for_the_models_gpu_starts(tmp_path: Path) -> None:
    child = Child(tmp_path, place="cuda")
    assert child.ask({**start(tmp_path), "device": "cuda"})["version"] == "solver@0"
    assert child.end() == (0, "")


ASKER = """
import sys
from pathlib import Path
import torch
from pipeline.engine.served import ServedEngine, Serving
serving = Serving(
    "", Path(sys.argv[1]), "cpu", torch.float32, 40, 0.4, 60.0, 60.0, Path(sys.argv[2])
)
engine = ServedEngine(serving, eos_ids=frozenset({1}), version="solver@0")
print(engine.process, engine.log, flush=True)
sys.stdin.read()
"""


def test_the_real_program_ends_with_an_asker_that_is_killed(tmp_path: Path) -> None:
    waits = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)  #"
    waiting = tmp_path / "waiting.py"
    waiting.write_text(PROGRAM.read_text().replace("import vllm  #", waits))  # busy starting
    asker = subprocess.Popen(
        [sys.executable, "-c", ASKER, str(tmp_path), str(waiting)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asker.stdout is not None
    pid, log = asker.stdout.readline().split()
    try:
        assert wait_until(lambda: len(left(int(pid))) == 2)
        asker.kill()
        asker.communicate()
        assert wait_until(lambda: not left(int(pid)))
    finally:
        asker.kill()
        Path(log).unlink()


def wait_until(true: object) -> bool:
    """Whether something became true within half a minute."""
    assert callable(true)
    until = time.monotonic() + 30
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(true())
