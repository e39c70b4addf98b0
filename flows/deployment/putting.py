"""From what `coclimb deploy` was asked to what is put on the server, and what to do next."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from flows.deployment.address import bare, has_password
from flows.deployment.firing import Firing, refuse_other_settings
from flows.deployment.queues import queues_of
from flows.errors import Refusal
from flows.home import STORE, VARIABLE, Home
from flows.looks.report import console
from flows.server import lasting
from pipeline.config import RunConfig
from store.database import Store, parse_url
from store.errors import StoreError
from store.waiting import Patience

BRIEFLY = 5.0  # seconds that the store has to answer
KINDS = ("process", "docker", "kubernetes")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of the command, by their names."""

    name: str
    run: str
    pool: str
    type: str
    image: str | None
    gpus: int
    machines: tuple[str, ...]
    queues: tuple[str, ...]
    train_queue: str
    cron: str | None
    interval: float | None
    rrule: str | None
    timezone: str | None
    rounds: int | None
    rounds_more: int | None
    idle: float


def put(home: Home, config: RunConfig, asked: Asked) -> None:
    """Make pool, queues and deployments, or change those of that name; say what to do next."""
    home = replace(home, store=_absolute(home.store))
    named = queues_of(asked.gpus, asked.machines, asked.queues)
    queues = tuple(queue for queue in named if queue != asked.train_queue)  # its GPU trains
    _refuse(config, asked, queues)
    firing = Firing(asked.run, config, asked.rounds, asked.rounds_more)
    _refuse_as_every_firing_would(home, firing)
    os.environ.update(lasting(os.environ))
    from flows.deployment import deploying, schedules  # noqa: PLC0415 - Prefect's environment

    wanted = deploying.Wanted(
        name=asked.name,
        firing=firing,
        pool=deploying.Pool(asked.pool, asked.type, asked.image),
        queues=queues,
        train=asked.train_queue,
        when=schedules.When(asked.cron, asked.interval, asked.rrule, asked.timezone),
        address=bare(home.store),
        env=environment(home),
        folder=working_folder(config),
        idle=asked.idle,
    )
    made = deploying.deploy(wanted)
    lines = told(home, asked, queues, made)
    lines.append(
        f"the run has {max(config.rounds, asked.rounds or 0)} rounds in all; a firing after the "
        "last finds nothing to do (--rounds asks for more)"
    )
    if _scheduled(asked):
        lines.append(_when(schedules.planned(made[0])))
    for line in lines:
        console().print(line, markup=False, highlight=False, soft_wrap=True)


def _refuse_as_every_firing_would(home: Home, firing: Firing) -> None:
    """Refuse other settings than the run's own where the store can be asked from here; the workers
    may reach one that this machine does not."""
    address = parse_url(home.store)
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists():
        return
    try:
        with closing(Store.open(home.store, Patience(BRIEFLY))) as store:
            refuse_other_settings(store, firing)
    except (StoreError, DBAPIError):
        return


def environment(home: Home) -> dict[str, str]:
    """What every flow is told of its place; an address with a password is left out."""
    env = {VARIABLE: str(home.root)}
    return env if has_password(home.store) else {**env, STORE: home.store}


def working_folder(config: RunConfig) -> str | None:
    """The folder that settings name files in by a relative path, or None where none does."""
    named = (Path(config.data.source), Path(config.model.base))
    relative = any(not path.is_absolute() and path.exists() for path in named)
    return str(Path.cwd()) if relative else None


def told(home: Home, asked: Asked, queues: tuple[str, ...], made: list[str]) -> list[str]:
    """What was made, and the commands that come next."""
    every = list(dict.fromkeys((asked.train_queue, *queues)))
    lines = [f"made or changed on the server, in the {asked.type} pool {asked.pool}:"]
    lines += [f"  {name}" for name in made]
    lines += ["", "start a worker for each queue, each where it is to work:"]
    secret = has_password(home.store)
    if secret:
        lines.append(f"  ({STORE} with the password: it is kept out of Prefect)")
    if asked.type == "process":
        pool = "" if asked.pool == "coclimb" else f" --pool {asked.pool}"
        before = f"{STORE}=URL " if secret else ""
        lines += [f"  {before}coclimb worker {queue}{pool}" for queue in every]
    else:
        at = f"prefect worker start --pool {asked.pool} --limit 1 --work-queue"
        lines += [f"  {at} {queue}" for queue in every]
    if secret and asked.type != "process":  # containers have nothing of a worker's environment
        lines += [
            f"  give every container {STORE}=URL: a secret that the pool's base job template",
            f"  names (`prefect work-pool update {asked.pool} --base-job-template FILE`)",
        ]
    fires = "the schedule fires it; by hand: " if _scheduled(asked) else "then start it: "
    lines += ["", f"{fires}prefect deployment run {made[0]}"]
    lines += [f"how it stands: coclimb rounds {asked.run}"]
    return lines


def _when(due: datetime | None) -> str:
    if due is None:
        return (
            "the server has planned no firing yet; if it stays so its log says why (Prefect 3.8.8 "
            "plans nothing under SQLAlchemy 2.1: pip install 'sqlalchemy<2.1' where it runs)"
        )
    return f"next firing: {due.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).absolute())


def _scheduled(asked: Asked) -> bool:
    return any(value is not None for value in (asked.cron, asked.interval, asked.rrule))


def _refuse(config: RunConfig, asked: Asked, queues: tuple[str, ...]) -> None:
    """Refuse what cannot work before anything is made."""
    if asked.type not in KINDS:
        raise Refusal(f"--type {asked.type!r}: there is no such pool", remedy=", ".join(KINDS))
    if (asked.image is None) != (asked.type == "process"):
        raise Refusal(
            "a docker or kubernetes pool runs an image, a process pool runs none",
            remedy="--image NAME with coclimb installed, for --type docker or kubernetes only",
        )
    if queues and not config.work.queue:
        raise Refusal(
            "helpers take their work from the store, and this run would put none there",
            remedy="--set work.queue=true --set work.shard=1, or deploy without queues of GPUs",
        )
    if "/" in asked.name or "%" in asked.name:
        raise Refusal(f"--name {asked.name!r}: Prefect takes no slash and no per cent sign in it")
