"""Restart the database of a run again and again, and compare with a run that nothing disturbed.

    python -m tests.study_restarts --restarts 5 [--prefect] [--seed 0]
    python -m tests.study_restarts --restarts 50 --scripted

A PostgreSQL of this program's own, in a temporary folder and with fsync on, is stopped in order
("fast"), stopped as by a crash ("immediate") or killed ("kill", SIGKILL to the postmaster) at
random moments of one short run, stays away for a moment and is started again. The run is never
started again. `verify` looks at it, and its digest chain is set against that of the same run on
SQLite. Prints restarts, waits, violations and whether the chains agree; exits 1 where they do not.

--scripted takes a run whose engine is a script, in this process: a second a round, so that many
restarts fit into one run. They fall on fault points, half of them a moment later, wherever that is.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import create_engine, text

from pipeline.faults import POINTS, armed
from store import invariants
from tests.flows.scripted import SMALL, Bench, Heard
from tests.pg import PgServer, own_server
from tests.study_kills import begin, check, coclimb

MODES = ("immediate", "fast", "kill", "immediate", "fast")
AWAY = 5.0  # seconds the server may stay away
LAST = 0.5  # share of the undisturbed run's lines within which restarts fall; its end comes soon


def modes(count: int) -> list[str]:
    """How each restart is done, at least two of five as by a crash."""
    return [MODES[number % len(MODES)] for number in range(count)]


def restart(server: PgServer, mode: str, away: float) -> None:
    """Take the server down, leave it down for so many seconds, and start it."""
    if mode == "kill":
        server.kill()
    else:
        server.stop(mode)
    time.sleep(away)
    server.start()


def chain(home: Path, *store: str) -> list[str]:
    """The digest of every round."""
    told = subprocess.run(
        coclimb(home, "rounds", "short", "--json", *store),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [row["digest"] for row in json.loads(told.stdout)]


def lines_of(log: Path) -> int:
    """How many lines a run has told of its work."""
    return sum("the store" not in line for line in log.read_text().splitlines())


def real_run(server: PgServer, folder: Path, options: argparse.Namespace) -> None:
    """The short run of the tiny base, in a process of its own."""
    rng, store = random.Random(options.seed), ("--store", server.url)
    log, undisturbed, started = folder / "log", folder / "whole.log", time.monotonic()
    with undisturbed.open("w") as out:
        subprocess.run(begin(folder / "whole", options), check=True, stdout=out)
    length, lines = time.monotonic() - started, lines_of(undisturbed)
    expected, home = chain(folder / "whole"), folder / "restarted"
    say(f"one run takes {length:.0f} s on SQLite; its chain ends in {expected[-1][:12]}")
    started, down = time.monotonic(), 0.0
    with log.open("w") as out:
        process = subprocess.Popen([*begin(home, options), *store], stdout=out, stderr=out)
        done = []
        moments = sorted(rng.randrange(1, int(LAST * lines)) for _ in range(options.restarts))
        for mode, moment in zip(modes(options.restarts), moments, strict=True):
            while process.poll() is None and lines_of(log) < moment:
                time.sleep(0.1)
            time.sleep(rng.uniform(0.0, length / lines))
            if process.poll() is not None:
                break
            away = rng.uniform(0.0, AWAY)
            before = time.monotonic()
            restart(server, mode, away)
            down += time.monotonic() - before
            done.append(mode)
            say(f"{before - started:.0f} s: {mode}, {time.monotonic() - before:.1f} s away")
        code = process.wait()
    took = time.monotonic() - started
    told = log.read_text()
    waits = told.count("waiting for the store")
    same = code == 0 and chain(home, *store) == expected
    found = subprocess.run(
        coclimb(home, "verify", "--json", *store), capture_output=True, text=True
    )
    violations = len(json.loads(found.stdout)["violations"])
    say(
        f"{len(done)} restarts ({', '.join(done)}) in one run of {took:.0f} s, the server away for "
        f"{down:.0f} s of them; {waits} waits told; {owners(server)} owner; exit {code}; "
        f"{violations} violations; the same digest chain: {same}"
    )
    check(len(done) == options.restarts, "the run ended before its restarts were through")
    check(same and not violations and owners(server) == 1, f"see {folder}")


def scripted_run(server: PgServer, folder: Path, options: argparse.Namespace) -> None:
    """A run over the script, in this process."""
    rng = random.Random(options.seed)
    config = SMALL.model_copy(update={"rounds": max(2, options.restarts // 10)})
    whole, passes = Bench(folder / "whole", config), [0]

    def count() -> None:
        passes[0] += 1

    at_every_point(count, whole.go_on)
    say(f"{config.rounds} rounds pass {passes[0]} fault points on SQLite")
    chosen = set(rng.sample(range(passes[0]), options.restarts))
    left, passed, down, going = modes(options.restarts), [0], [0.0], list[threading.Thread]()

    def act() -> None:
        passed[0] += 1
        if passed[0] - 1 not in chosen or not left:
            return
        for thread in going:
            thread.join()
        mode, late = left.pop(0), rng.random() < 0.5
        delay = rng.uniform(0.0, 0.1) if late else 0.0

        def later() -> None:
            time.sleep(delay)
            before = time.monotonic()
            restart(server, mode, 0.0)
            down[0] += time.monotonic() - before

        going[:] = [threading.Thread(target=later)]
        going[0].start()
        if not late:
            going[0].join()

    heard, started = Heard(), time.monotonic()
    broken = Bench(folder / "restarted", config, server.url)
    at_every_point(act, lambda: broken.go_on(progress=heard))
    for thread in going:
        thread.join()
    done = options.restarts - len(left)
    same = broken.chain() == whole.chain()
    violations = invariants.verify(broken.store, None, broken.home.root)["violations"]
    say(
        f"{done} restarts in one run of {time.monotonic() - started:.0f} s, the server away for "
        f"{down[0]:.0f} s of them; {owners(server)} owner; {len(heard.again)} steps taken again; "
        f"{violations} violations; the same digest chain: {same}"
    )
    check(done == options.restarts, "the run ended before its restarts were through")
    check(same and not violations and owners(server) == 1 and not heard.again, f"see {folder}")


def at_every_point(act: Callable[[], None], run: Callable[[], object]) -> None:
    """Run with an act at each fault point."""
    with ExitStack() as stack:
        for point in sorted(POINTS):
            stack.enter_context(armed(point, act))
        run()


def owners(server: PgServer) -> int:
    """How often somebody took the run: its lease's epoch."""
    engine = create_engine(server.url)
    with engine.connect() as connection:
        epoch: int = connection.execute(text("SELECT max(epoch) FROM lease")).scalar_one()
    engine.dispose()
    return epoch


def say(text: str) -> None:
    """A line of the report, at once."""
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--prefect", action="store_true", help="run the Prefect flow")
    parser.add_argument("--scripted", action="store_true", help="a run over a script")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="coclimb-restarts-"))
    with own_server() as server:
        (scripted_run if options.scripted else real_run)(server, folder, options)


if __name__ == "__main__":
    main()
