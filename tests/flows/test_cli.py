"""The command line as a person meets it: in processes of its own, on the base that ships."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.assemble import TINY
from flows.cli import app, hoist, main
from flows.doctor import examine
from flows.home import find_home
from tests.study_kills import SHORT

ROOT = Path(__file__).resolve().parent.parent.parent
CHANGES = [part for change in [*SHORT, "rounds=1", "steps=2"] for part in ("--set", change)]

# one thread each: two that wait for each other on a busy machine take many times as long
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


def command(home: Path, *arguments: str) -> list[str]:
    """A command as a process of its own."""
    return [sys.executable, "-m", "flows.cli", "--home", str(home), *arguments]


def coclimb(home: Path, *arguments: str, code: int = 0) -> Done:
    """Run a command in this process, and check how it ended."""
    out, err = io.StringIO(), io.StringIO()
    ended = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(["--home", str(home), *arguments])
        except SystemExit as left:
            ended = left.code if isinstance(left.code, int) else 0
    assert ended == code, out.getvalue() + err.getvalue()
    assert "Traceback" not in err.getvalue()
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run, named "first"."""
    folder = tmp_path_factory.mktemp("cli") / "home"
    ran = subprocess.run(
        command(folder, "run", *CHANGES, "--name", "first", "--plain"),
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "round 1: solver 0." in ran.stdout
    assert "coclimb rollouts" in ran.stdout
    assert ran.stderr == ""
    assert all(character.isprintable() or character == "\n" for character in ran.stdout)
    return folder


def listed(home: Path, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(coclimb(home, *arguments, "--json").stdout)


def test_help_answers_within_half_a_second_of_work() -> None:
    heavy = ["torch", "transformers", "prefect", "sqlalchemy", "pydantic", "datasets", "matplotlib"]
    code = f"import sys, flows.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    before = os.times()
    subprocess.run(command(Path("nowhere"), "--help"), cwd=ROOT, capture_output=True, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 0.5


def test_runs_and_rounds_keep_the_contract(home: Path) -> None:
    (run,) = listed(home, "runs")
    assert {k: run[k] for k in ("status", "rounds_done", "rounds_asked")} == {
        "status": "done", "rounds_done": 1, "rounds_asked": 1,
    }  # fmt: skip
    assert isinstance(run["id"], str)
    rows = listed(home, "rounds", "last")
    assert [row["round"] for row in rows] == [0, 1]
    for row in rows:
        for axis in ("solver", "verifier", "generator"):
            figure = row[axis]
            assert isinstance(figure, dict)
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["n"] > 0


def test_every_step_tells_what_it_taught_and_why_the_proxy_moved(home: Path) -> None:
    first, second = listed(home, "rounds", "last", "--steps")
    assert [(row["step"], row["round"]) for row in (first, second)] == [(1, 1), (2, 1)]
    (update,) = first["updates"]
    assert update.keys() >= {"line", "loss", "tokens", "dead_groups", "unspliced", "mismatch"}
    assert (update["line"], update["tokens"] > 0, first["syncs"]) == ("solver", True, [])
    (sync,) = second["syncs"]  # every second step, as sync.every says
    assert (sync["before"], sync["after"], sync["accepted"]) == ("proxy@0", "proxy@2", True)
    told = coclimb(home, "rounds", "--steps").stdout
    assert "dead_groups" in told
    assert f"step 2: proxy@0 -> proxy@2: {sync['reason']}\n" in told


def test_everything_of_a_run_can_be_listed_and_traced(home: Path) -> None:
    tasks = listed(home, "tasks", "first", "--limit", "5")
    assert len(tasks) == 5
    rollouts = listed(home, "rollouts", "last", "--round", "1", "--role", "solver")
    task = str(rollouts[0]["task"])
    assert {row["task"] for row in listed(home, "rollouts", task)} == {task}
    tree = json.loads(coclimb(home, "lineage", str(rollouts[0]["id"]), "--json").stdout)
    assert tree["kind"] in ("rollout", "task")
    assert {"version", "evidence"} & {child["kind"] for child in tree["children"]}
    for command in ("runs", "rounds", "tasks", "rollouts", "probe"):
        assert "first" in (told := coclimb(home, command).stdout) or len(told) > 100


def test_probes_are_listed_and_drawn(home: Path, tmp_path: Path) -> None:
    assert {row["axis"] for row in listed(home, "probe", "last")} == {
        "solver", "verifier", "generator",
    }  # fmt: skip
    coclimb(home, "probe", "last", "--plot", str(tmp_path / "climb.png"))
    assert (tmp_path / "climb.png").stat().st_size > 10_000
    told = coclimb(home, "probe", "last", "--plot", "climb.txt", code=2).stderr
    assert "expected a file that ends in .png" in told


def test_two_versions_are_set_against_each_other_once(home: Path, tmp_path: Path) -> None:
    asked = ("passk", "first@0", "last@1", "--samples", "2", "--tasks", "1")
    picture = tmp_path / "passk.png"
    told = coclimb(home, *asked, "--plot", str(picture))
    assert "pass@k, all (5 tasks)" in told.stdout
    assert "A attempts: 10 of 10" in told.stderr
    assert picture.stat().st_size > 10_000
    again = coclimb(home, *asked, "--json")
    assert "kept from before" in again.stderr
    found = json.loads(again.stdout)
    assert (found["a"]["version"], found["b"]["version"]) == ("solver@0", "solver@2")
    assert len(found["contrast"]["curves"][0]["a"]) == 2


def test_verify_finds_nothing_on_a_sound_home_and_a_flipped_byte_on_another(
    home: Path, tmp_path: Path
) -> None:
    sound = json.loads(coclimb(home, "verify", "--json").stdout)
    assert (sound["violations"], sound["checked"] > 5) == ([], True)
    other = tmp_path / "other"
    shutil.copytree(home, other)
    file = next((other / "checkpoints").rglob("round-001/proxy/proxy.safetensors"))
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    told = json.loads(coclimb(other, "verify", "--json", code=1).stdout)
    assert [one["invariant"] for one in told["violations"]] == ["I4"]
    refused = coclimb(other, "resume", "last", "--rounds", "2", "--plain", code=2).stderr
    assert "proxy.safetensors" in refused
    assert "--older" in refused


def test_a_finished_run_says_so_and_the_same_name_goes_on_with_it(home: Path) -> None:
    assert "is done: 1 of 1 rounds" in coclimb(home, "resume").stdout
    told = coclimb(home, "run", "--name", "first", "--plain", code=2).stderr
    assert "with other settings" in told
    assert len(told.splitlines()) < 24


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--set", "reward.nam=rank"], "did you mean reward.name?"),
        (["run", "--set", "reward.name=nove"], "did you mean 'nover'?"),
        (["run", "--set", "solver.group_size=1"], "greater than or equal to 2"),
        (["run", "nowhere.toml"], "coclimb init nowhere.toml"),
        (["run", "--set", "model.base=/no/where", "--plain"], "/no/where"),
        (["run", "--set", "data.source=/no/where.csv", "--plain"], "there is no such file"),
        (["rounds", "nothing"], "coclimb runs"),
        (["fork", "first", "--round", "7", "--rounds", "9"], "has no checkpoint of round 7"),
        (["fork", "first", "--round", "1", "--set", "model.lora_rank=2"], "cannot change these"),
        (["train", "--from", "nothing", "--objective", "sft"], "coclimb runs"),
        (["train", "--from", "first", "--objective", "none"], "--objective qrpo, sft"),
        (["train", "--from", "first", "--objective", "qrp"], "did you mean 'qrpo'?"),
        (["train", "--from", "first"], "Missing option '--objective'"),
        (
            ["train", "--from", "first", "--objective", "dpo", "--set", "generator.kind=evolve"],
            "proposes nothing",
        ),
        (["run", "--set", "offline.objective=dpo"], "coclimb train --from RUN"),
        (["passk", "first", "first@1"], "expected RUN@ROUND"),
        (["passk", "first@0", "first@7"], "has no round 7"),
        (["passk", "first@0", "first@1", "--plot", "x.txt"], "ends in .png"),
        (["compare", "first", "last"], "name two runs or more"),
        (["frobnicate"], "No such command"),
    ],
)
def test_a_mistake_is_refused_on_one_screen(home: Path, arguments: list[str], told: str) -> None:
    said = coclimb(home, *arguments, code=2).stderr
    assert told in said
    assert len(said.splitlines()) < 24


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["rollouts", "--role", "solvr"],
            "one of solver, generator, greedy, not 'solvr'; did you mean",
        ),
        (["rollouts", "--form", "Ok"], "--form: expected one of ok, empty, truncated"),
        (["tasks", "--drop", "typo"], "--drop: expected one of admitted, malformed"),
        (["tasks", "--origin", "rules"], "did you mean rule?"),
    ],
)
def test_a_word_that_nothing_carries_is_refused_with_those_that_are_known(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    assert told in coclimb(tmp_path, *arguments, code=2).stderr


def test_no_mistake_left_a_run(home: Path) -> None:
    coclimb(home, "run", "--set", "model.base=/no/where", "--plain", code=2)
    assert len(listed(home, "runs")) == 1


def test_a_store_from_a_newer_program_is_left_alone(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "newer"
    other.mkdir()
    shutil.copy(home / "coclimb.db", other / "coclimb.db")
    with sqlite3.connect(other / "coclimb.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    told = coclimb(other, "runs", code=2).stderr
    assert "has schema 9999" in told
    assert "install a newer coclimb" in told


def test_looking_where_nothing_is_makes_nothing(tmp_path: Path) -> None:
    told = coclimb(tmp_path / "none", "runs", code=2).stderr
    assert "there is no store" in told
    assert not (tmp_path / "none").exists()
    missing = f"sqlite:///{tmp_path}/missing.db"
    assert "there is no store" in coclimb(tmp_path, "--store", missing, "runs", code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_init_writes_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    coclimb(tmp_path, "init", str(file))
    assert "is there already" in coclimb(tmp_path, "init", str(file), code=2).stderr
    coclimb(tmp_path, "init", str(file), "--force")


def test_doctor_tells_what_there_is(home: Path) -> None:
    found = {one.name: one for one in examine(find_home(home, None), TINY)}
    assert {"torch", "cpu", "store", "base", "disk", "prefect server", "vllm"} <= found.keys()
    assert all(found[name].ok for name in ("torch", "store", "base"))
    assert all(one.ok or one.need for one in found.values())
    ill = [one for one in examine(find_home(home, None), home) if not one.ok]
    assert "base" in [one.name for one in ill]


def test_a_killed_run_goes_on_to_the_same_chain(home: Path, tmp_path: Path) -> None:
    again = command(tmp_path, "run", *CHANGES, "--name", "first", "--plain")
    process = subprocess.Popen(again, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "step 1" in line:
            break
    process.kill()
    process.wait()
    subprocess.run(again, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    chains = [[row["digest"] for row in listed(one, "rounds", "first")] for one in (home, tmp_path)]
    assert chains[0] == chains[1]
    assert json.loads(coclimb(tmp_path, "verify", "--json").stdout)["violations"] == []


def test_a_run_learns_from_what_another_stored(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(home, other)
    told = coclimb(other, "train", "--from", "first", "--objective", "sft", "--name", "pupil",
                   "--plain").stdout  # fmt: skip
    assert "round 1: solver 0." in told
    assert [row["parent_round"] for row in listed(other, "runs")] == [None, 0]
    assert listed(other, "rollouts", "pupil") == []
    assert [len(listed(other, "rounds", name)) for name in ("first", "pupil")] == [2, 2]
    assert json.loads(coclimb(other, "verify", "--json").stdout)["violations"] == []


def test_shared_options_may_stand_anywhere() -> None:
    assert hoist(["runs", "--home", "x", "--json"]) == ["--home", "x", "runs", "--json"]
    assert hoist(["runs", "--store=y", "--debug"]) == ["--store=y", "--debug", "runs"]
    assert hoist(["init", "--", "--home"]) == ["init", "--", "--home"]


def test_every_command_of_the_design_is_there() -> None:
    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert named == {
        "run", "resume", "fork", "runs", "rounds", "tasks", "rollouts", "lineage", "probe",
        "verify", "doctor", "init", "replay", "attack", "methods", "train", "passk", "compare",
        "import", "export", "deploy", "worker", "workers",
    }  # fmt: skip
