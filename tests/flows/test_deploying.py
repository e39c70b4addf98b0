"""What `coclimb deploy` is asked, what it refuses, and that no password leaves this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from flows.deployment import putting
from flows.deployment.address import bare, has_password
from flows.deployment.firing import Firing, find_or_begin
from flows.deployment.queues import devices, queues_of
from flows.errors import Refusal
from flows.home import STORE, VARIABLE, Home, find_home
from flows.live import Place
from flows.settings import build
from pipeline.config import RunConfig
from store.database import Store
from store.errors import StoreError

SECRET = "correct-horse"
URL = f"postgresql://climber:{SECRET}@db:5432/runs"
ASKED = putting.Asked(
    "night", "night", "coclimb", "process", None, 0, (), (), "train", None, None, None, None, None,
    1, 300.0,
)  # fmt: skip
QUEUED = RunConfig.model_validate({"work": {"queue": True, "shard": 1}})


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        (URL, "postgresql://climber@db:5432/runs"),
        ("postgresql://db/runs?user=a&password=b", "postgresql://db/runs?user=a"),
        ("postgresql://climber@db/runs", "postgresql://climber@db/runs"),
        ("/data/coclimb.db", "/data/coclimb.db"),
    ],
)
def test_an_address_is_shown_without_its_password(store: str, shown: str) -> None:
    assert bare(store) == shown
    assert has_password(store) == (store != shown)


@pytest.mark.parametrize(
    "slip", [f'"{URL}"', f" {URL}", f"postgresql://climber:{SECRET}@word:x@db/runs", f"post:{URL}"]
)
def test_an_address_with_a_slip_in_it_is_refused_unrepeated(slip: str) -> None:
    for look in (bare, has_password):
        with pytest.raises(StoreError) as refused:
            look(slip)
        assert SECRET not in str(refused.value)


def test_the_store_is_named_by_the_environment_where_the_command_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(STORE, URL)
    assert find_home(tmp_path, None).store == URL
    assert find_home(tmp_path, "other.db").store == "other.db"


def test_a_gpus_queue_is_kept_to_its_gpu() -> None:
    assert devices("gpu-0") == {"CUDA_VISIBLE_DEVICES": "0"}
    assert devices("m07-gpu-13") == {"CUDA_VISIBLE_DEVICES": "13"}
    assert devices("train") == devices("gpu-") == devices("megagpu-1") == {}


def test_queues_are_counted_or_named() -> None:
    assert queues_of(2, (), ()) == ("gpu-0", "gpu-1")
    assert queues_of(1, ("a", "b"), ()) == ("a-gpu-0", "b-gpu-0")
    assert queues_of(0, (), ("left", "right")) == ("left", "right")
    for wrong in ((1, (), ("x",)), (0, ("a",), ()), (0, (), ("x", "x")), (0, (), ("a/b",))):
        with pytest.raises(Refusal):
            queues_of(*wrong)


@pytest.mark.parametrize(
    ("asked", "config", "said"),
    [
        (replace(ASKED, type="slurm"), QUEUED, "no such pool"),
        (replace(ASKED, type="docker"), QUEUED, "runs an image"),
        (replace(ASKED, image="coclimb:1"), QUEUED, "a process pool runs none"),
        (replace(ASKED, gpus=2), RunConfig(), "would put none there"),
        (replace(ASKED, name="a/b"), QUEUED, "no slash"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    asked: putting.Asked, config: RunConfig, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=said):
        putting.put(Home(tmp_path, URL), config, asked)


def test_an_address_with_a_password_is_left_to_the_workers(tmp_path: Path) -> None:
    home = Home(tmp_path, URL)
    assert putting.environment(home) == {VARIABLE: str(tmp_path)}
    lines = "\n".join(putting.told(home, ASKED, ("gpu-0",), ["coclimb-climb/night"]))
    assert f"{STORE}=URL coclimb worker gpu-0" in lines
    assert SECRET not in lines
    open_home = replace(home, store=bare(URL))
    assert putting.environment(open_home)[STORE] == bare(URL)


def test_a_pool_of_images_is_served_by_prefects_own_worker(tmp_path: Path) -> None:
    asked = replace(ASKED, type="kubernetes", image="coclimb:1", pool="cluster")
    lines = putting.told(Home(tmp_path, bare(URL)), asked, (), ["coclimb-climb/night"])
    assert "  prefect worker start --pool cluster --limit 1 --work-queue train" in lines
    assert not any("container" in line for line in lines)
    lines = putting.told(Home(tmp_path, URL), asked, (), ["coclimb-climb/night"])
    assert (
        f"  give every container {STORE}=URL: a secret that the pool's base job template" in lines
    )
    assert not any(f"{STORE}=URL prefect" in line or SECRET in line for line in lines)


@pytest.mark.prefect
def test_what_is_put_on_the_server_is_small_plain_and_without_a_password(tmp_path: Path) -> None:
    from flows.deployment import deploying  # noqa: PLC0415 - imports Prefect
    from flows.deployment.schedules import When  # noqa: PLC0415

    home = Home(tmp_path, URL)
    wanted = deploying.Wanted(
        "night", Firing("night", QUEUED, rounds_more=1), deploying.Pool("coclimb"),
        ("gpu-0", "gpu-1"), "train", When(), bare(home.store),
        putting.environment(home), None, 300.0,
    )  # fmt: skip
    made = list(deploying._deployments(wanted))
    assert [one.full for one in made] == [
        "coclimb-climb/night",
        *(f"coclimb-stage/night-{s}" for s in ("propose", "climb", "sync", "checkpoint", "probe")),
        "coclimb-help/night-gpu-0",
        "coclimb-help/night-gpu-1",
    ]
    texts = [json.dumps([one.parameters, deploying._job(wanted)]) for one in made]
    assert max(map(len, texts)) < 2**14
    assert not any(SECRET in text for text in texts)
    assert not any("CUDA_VISIBLE_DEVICES" in text for text in texts)  # it would outdo a worker's
    assert made[0].parameters["helpers"] == ["night-gpu-0", "night-gpu-1"]


def test_settings_that_every_firing_would_refuse_are_refused_by_deploy(tmp_path: Path) -> None:
    home = Home(tmp_path, str(tmp_path / "coclimb.db"))
    begun, other = (build({}, [f"steps={steps}"], "--set") for steps in (2, 3))
    with closing(Store.open(home.store)) as store:
        find_or_begin(Place(store, home, ""), Firing("night", begun))
    with pytest.raises(Refusal, match="there, with other settings") as refused:
        putting.put(home, other, ASKED)
    assert "steps differs" in refused.value.told()


UNREAD = """
import logging, os, sys
from prefect.logging import get_logger
from flows.deployment.unread import outlive_reader
logger = get_logger("flow_runs")
{outlive}
sys.stdin.readline()  # the reader is gone
logger.warning("to nobody")
print("to nobody", flush=True)
os._exit(0)
"""


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize("outlive", ["outlive_reader()", ""])
def test_a_flow_whose_worker_was_killed_goes_on_though_nobody_reads_its_log(
    outlive: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", UNREAD.format(outlive=outlive)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=Path(__file__).resolve().parents[2], env={**os.environ, "PREFECT_HOME": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout
    assert process.stdin
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(60) == (0 if outlive else 1)


@pytest.mark.prefect
def test_one_schedule_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    from flows.deployment.schedules import When, schedule_of  # noqa: PLC0415 - imports Prefect

    night = schedule_of(When(cron="0 2 * * *", timezone="Europe/Berlin"))
    assert night is not None
    assert (night.cron, night.timezone) == ("0 2 * * *", "Europe/Berlin")
    hourly = schedule_of(When(interval=3600))
    assert hourly is not None
    assert hourly.interval == timedelta(hours=1)
    weekly = schedule_of(When(rrule="FREQ=WEEKLY;BYDAY=MO"))
    assert weekly is not None
    assert weekly.rrule == "FREQ=WEEKLY;BYDAY=MO"
    assert schedule_of(When()) is None
    wrong = {
        "--cron x y": When(cron="x y"),
        "--interval -1": When(interval=-1),
        "--rrule often": When(rrule="often"),
        "Nowhere": When(cron="0 2 * * *", timezone="Nowhere/City"),
        "--cron and --interval": When(cron="0 2 * * *", interval=5),
    }
    for said, when in wrong.items():
        with pytest.raises(Refusal, match=said):
            schedule_of(when)


@pytest.mark.prefect
def test_a_queue_has_one_worker_and_a_lost_one_is_followed_after_three_heartbeats() -> None:
    from prefect.client.schemas.objects import Worker  # noqa: PLC0415

    from flows.deployment.leftovers import name_of, refuse_second  # noqa: PLC0415 - imports Prefect

    now = datetime.now(UTC)

    def worker(name: str, silent: float) -> Worker:
        heard = now - timedelta(seconds=silent)
        return Worker(
            name=name, work_pool_id=uuid4(), last_heartbeat_time=heard,
            heartbeat_interval_seconds=30,
        )  # fmt: skip

    refuse_second([worker(name_of("gpu-0"), 1), worker("gpu-1 on other", 1)], "gpu-0", now)
    refuse_second([worker("gpu-0 on other", 91)], "gpu-0", now)
    with pytest.raises(Refusal, match="served already, by gpu-0 on other") as refused:
        refuse_second([worker("gpu-0 on other", 30)], "gpu-0", now)
    assert "try again in 60 s" in refused.value.told()


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize("command", [["deploy", "--name", "night"], ["worker", "gpu-0"]])
def test_without_a_server_one_line_says_how_to_start_one(
    command: list[str], tmp_path: Path
) -> None:
    alone = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--home", str(tmp_path / "home"), *command],
        env={**alone, "PREFECT_HOME": str(tmp_path / "prefect"), "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "`prefect server start`" in done.stderr
    assert "PREFECT_API_URL=" in done.stderr
    assert not (tmp_path / "prefect" / "prefect.db").exists()  # no temporary one was started


@pytest.mark.prefect
def test_a_server_that_cannot_be_used_is_told_without_its_password() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    from flows.deployment.reaching import reaching  # noqa: PLC0415 - imports Prefect

    address = f"http://climber:{SECRET}@prefect:4200/api"
    with (
        temporary_settings({PREFECT_API_URL: address}),
        pytest.raises(Refusal, match=r"at http://prefect:4200/api cannot") as refused,
        reaching(),
    ):
        raise RuntimeError(f"no answer from {address}")
    assert SECRET not in refused.value.told()
