"""What this machine has, what it lacks, and how to get it. Starts nothing and changes nothing
but an empty store where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.text import Text
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from flows.assemble import TINY
from flows.environment import EXTRAS, PACKAGES, installed
from flows.errors import FAILED, printable
from flows.home import Home, make_home
from flows.looks.report import as_json, console
from flows.server import ADDRESS
from pipeline.models.folder import BadModel, check_folder
from store.database import Store
from store.errors import StoreError
from store.health import OLDEST, PER_PROCESS, Health, health_of
from store.waiting import Patience

NEEDED = 2**30  # bytes free: a default run writes about a fifth of this
SIZE = 1024  # of the matrices multiplied
ASKING = 5.0  # seconds that the store is waited for
FEW = 4  # runs and workers; a server with room for fewer is small for a team
ASKEW = 2.0  # seconds between two clocks that are worth a word


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. need: what is missing and how to get it, "" where nothing is; beside
    `ok` it is advice."""

    name: str
    ok: bool
    found: str
    need: str = ""


def examine(home: Home, base: Path) -> list[Finding]:
    """Everything worth knowing before a long run.

    base  folder of the model that ships
    """
    looks: list[Callable[[], Iterator[Finding]]] = [
        _packages,
        _torch,
        lambda: _home(home),
        lambda: _store(home),
        lambda: _base(base),
        _prefect,
        _extras,
    ]
    return [finding for look in looks for finding in look()]


def _packages() -> Iterator[Finding]:
    told = installed("coclimb") or f"run from {Path(__file__).resolve().parent.parent}"
    yield Finding("coclimb", True, told)
    for name in PACKAGES[1:]:
        found = installed(name)
        need = "" if found else f"pip install {name}, or install coclimb anew"
        yield Finding(name, found is not None, found or "not installed", need)


def _torch() -> Iterator[Finding]:
    speed = "; ".join(
        f"{label} {_speed(dtype):.0f} GFLOP/s"
        for label, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    )
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    yield Finding("cpu", True, f"{threads}, matrices of {SIZE}: {speed}")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("gpu", True, ", ".join(gpus) or "none; the tiny base needs none")


def _speed(dtype: torch.dtype) -> float:
    """Best of three multiplications of square matrices, in GFLOP/s."""
    matrix = torch.ones(SIZE, SIZE, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best / 1e9


def _home(home: Home) -> Iterator[Finding]:
    try:
        make_home(home)
        probe = home.root / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        need = "name a folder of yours with --home or COCLIMB_HOME"
        yield Finding("home", False, f"{home.root}: {error.strerror}", need)
        return
    yield Finding("home", True, f"{home.root}, writable")
    free = shutil.disk_usage(home.root).free
    need = "" if free > NEEDED else "free at least 1 GiB, or name another disk with --home"
    yield Finding("disk", not need, f"{free / 2**30:.1f} GiB free", need)


def _store(home: Home) -> Iterator[Finding]:
    try:
        store = Store.open(home.store, Patience(ASKING))
        facts = store.read(_rows)
        health = None if store.sqlite else store.patiently(lambda: health_of(store))
        store.close()
    except (StoreError, DBAPIError, OSError) as error:
        found = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        yield Finding("store", False, found, "check --store, and whether its server is up")
        return
    kind = "SQLite" if health is None else f"PostgreSQL {health.version}"
    yield Finding("store", True, f"{kind}, {facts}")
    if health is not None:
        yield from _server(health)


def _rows(session: Session) -> str:
    schema = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    count = session.execute(text("SELECT count(*) FROM run")).scalar_one()
    return f"schema {schema}, {count} runs"


def _server(health: Health) -> Iterator[Finding]:
    """What of a PostgreSQL server matters to a run."""
    new = health.major >= OLDEST
    need = "" if new else f"PostgreSQL {OLDEST} or later"
    yield Finding("postgres version", new, health.version, need)
    safe = health.isolation == "serializable"
    need = "" if safe else "a pooler or server in between changes transactions; connect directly"
    yield Finding("postgres writes", safe, f"transactions are {health.isolation}", need)
    free, most = health.connections
    room = free // PER_PROCESS
    need = "" if room >= FEW else "raise max_connections: each run and worker holds up to three"
    found = f"{free} of {most} connections free, enough for {room} runs and workers"
    yield Finding("postgres room", free >= PER_PROCESS, found, need)
    off = ", ".join(health.careless)
    need = f"turn {off} on: what a run reports as done may not survive a power cut" if off else ""
    yield Finding("postgres commits", True, f"off: {off}" if off else "survive a power cut", need)
    need = "" if abs(health.clock) < ASKEW else "leases go by the server's clock; set both right"
    yield Finding("postgres clock", True, f"{health.clock:+.1f} s from this machine's", need)


def _base(base: Path) -> Iterator[Finding]:
    try:
        check_folder(base)
    except (BadModel, OSError) as error:
        yield Finding(
            "base", False, str(error), "install coclimb anew: the tiny base is part of it"
        )
        return
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    yield Finding("base", True, f"tiny, {size / 1e6:.1f} MB of weights, readable")


def _prefect() -> Iterator[Finding]:
    address = os.environ.get(ADDRESS)
    if address is None:
        found = "a temporary server for each run, on a free port of this machine"
        yield Finding(
            "prefect server", _can_listen(), found, "" if _can_listen() else "free a port"
        )
        return
    yield Finding("prefect server", True, f"{address} ({ADDRESS})")


def _can_listen() -> bool:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return bool(listener.getsockname()[1])


def _extras() -> Iterator[Finding]:
    for package, extra in EXTRAS.items():
        found = installed(package)
        told = found or f"not installed; optional: pip install 'coclimb[{extra}]'"
        yield Finding(package, True, told)


def _mark(one: Finding) -> Text:
    if not one.ok:
        return Text("FIX  ", style="bold red")
    return Text("note ", style="yellow") if one.need else Text("ok   ", style="green")


def report(home: Home, *, json: bool) -> None:
    """Print what was found; exits 1 where something has to be mended."""
    tell(examine(home, TINY), json=json)


def tell(findings: Sequence[Finding], *, json: bool) -> None:
    """Print findings, a line each and a remedy below; exits 1 where one is to be mended."""
    if json:
        print(as_json([asdict(one) for one in findings]))
    else:
        shown = console()
        for one in findings:
            mark = _mark(one)
            shown.print(mark + Text(f"{one.name:16}") + Text(printable(one.found)), soft_wrap=True)
            if one.need:
                shown.print(f"     -> {one.need}", soft_wrap=True)
    if not all(one.ok for one in findings):
        sys.exit(FAILED)
