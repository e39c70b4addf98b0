"""The program of a served engine's own process, over a vLLM of some lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipeline.engine.served import PROGRAM

Told = dict[str, object]

# vLLM as far as the program asks it to start and to say what it holds
FAKE = """
import runpy, sys, types

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

vllm = types.ModuleType("vllm")
vllm.LLM, vllm.SamplingParams, vllm.__version__ = LLM, types.SimpleNamespace, "0"
sys.modules["vllm"] = vllm
runpy.run_path(PROGRAM, run_name="__main__")
"""


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

    def __init__(self, folder: Path) -> None:
        program = folder / "fake_vllm.py"
        program.write_text(FAKE.replace("PROGRAM", repr(str(PROGRAM))))
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
        assert self.process.stdout is not None
        told: Told = json.loads(self.process.stdout.readline())
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
