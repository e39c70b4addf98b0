"""The README cannot rot: its marked commands run, every command and every file stands in it.

A fenced `console` or `sh` block is run where an HTML comment stands on the line above it:

    <!-- runs in tests -->          each command as it is
    <!-- runs in tests, short -->   with a few settings more, so that a run takes seconds; what
                                    stands before && there installs, and is left out

In a `console` block commands follow "$ " and the rest is output; in a `sh` block every line is
one. All blocks share one home and one folder, in the README's order. `pytest` itself is not run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import app
from tests.study_kills import SHORT

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(
    r"^<!-- runs in tests(?P<short>, short)? -->\n+```(?P<kind>console|sh)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
BRIEF = [*SHORT, "rounds=1", "steps=1"]


@dataclass(frozen=True)
class Command:
    """A command of the README, ready to run."""

    text: str
    line: int


def commands(readme: str) -> list[Command]:
    """Every marked command in order."""
    found = []
    for block in BLOCK.finditer(readme):
        first = readme.count("\n", 0, block.start("body")) + 1
        for offset, text in enumerate(block["body"].splitlines()):
            shown = block["kind"] == "console"
            command = text.removeprefix("$ ") if text.startswith("$ ") or not shown else ""
            command = command.partition(" #")[0].strip()
            if block["short"]:
                command = shorten(command)
            if command and "pytest" not in command:
                found.append(Command(command, first + offset))
    return found


def shorten(command: str) -> str:
    """The part after the last &&, with brief settings where it climbs."""
    last = command.rpartition("&&")[2].strip()
    changes = " ".join(f"--set {shlex.quote(change)}" for change in BRIEF)
    return f"{last} {changes}" if re.match(r"coclimb run\b", last) else last


@pytest.fixture(scope="session")
def readme() -> str:
    return README.read_text(encoding="utf-8")


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_marked_command_of_the_readme_runs(readme: str, tmp_path: Path) -> None:
    listed = commands(readme)
    assert any(command.text.startswith("coclimb run") for command in listed)
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "coclimb"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flows.cli "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("PREFECT_API_URL", "PREFECT_HOME", "COCLIMB_HOME"):
        environment.pop(name, None)
    for command in listed:
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"README line {command.line}: {command.text}\n{said}"
        assert said.strip(), f"README line {command.line}: {command.text} said nothing"


def test_every_command_stands_in_the_readme(readme: str) -> None:
    named = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert [name for name in named if f"coclimb {name}" not in readme] == []


def test_every_file_of_the_rooms_stands_in_the_map(readme: str) -> None:
    missing = [
        path.relative_to(ROOT).as_posix()
        for room in ("agents", "flows", "pipeline", "store")
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
        and "versions" not in path.parts
        and not re.search(rf"\b{re.escape(path.stem)}\b", readme)
    ]
    assert missing == []


def test_every_link_of_the_readme_leads_somewhere(readme: str) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", readme)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_blocks_are_read_as_the_reader_sees_them() -> None:
    text = (
        "<!-- runs in tests, short -->\n"
        "```console\n$ pip install -e . && coclimb run\nround 1\n```\n"
        "```sh\nrm -rf /\n```\n<!-- runs in tests -->\n```sh\ncoclimb runs  # all of them\n```\n"
    )
    first, second = commands(text)
    assert first.text.startswith("coclimb run --set rounds=2 --set steps=4")
    assert first.text.endswith("--set rounds=1 --set steps=1")
    assert (first.line, second) == (3, Command("coclimb runs", 11))
