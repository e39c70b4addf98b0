"""One process of a learner's group: builds its lines, does what it is asked, dies with the asker.

Run by accelerate's launcher as a module, with the group's folder as its argument.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import torch.distributed as dist
from torch import nn
from transformers.utils.logging import disable_progress_bar

from pipeline.files.saving import save_tensors
from pipeline.learning.exactly import repeat_exactly
from pipeline.learning.launch.messages import (
    ANSWERS,
    ASKS,
    HELLOS,
    JOB,
    JOBS,
    LESSONS,
    ORDERS,
    SOCKET,
    Answer,
    Ask,
    Hello,
    Job,
    line_of,
    read_file,
)
from pipeline.learning.learner import Lines
from pipeline.learning.order import lines_of
from pipeline.learning.team import Team, together
from pipeline.models.policy import load_trainable
from pipeline.ports import NonFinite
from pipeline.types import Line, UpdateStats

log = logging.getLogger("learner")
FULL = (errno.ENOSPC, errno.EDQUOT)
ORPHANED = 3  # exit status of a process whose asker is gone


class Wire:
    """A with block in which the asker is heard; whatever ends it early is told to the asker.

    Raises OSError where nobody listens any more. A thread listens, so that a process in the middle
    of a step ends at once where the asker does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket = folder, socket.socket(socket.AF_UNIX)
        self._socket.connect(str(folder / SOCKET))
        self._heard: queue.SimpleQueue[Ask] = queue.SimpleQueue()

    def __enter__(self) -> Wire:
        threading.Thread(target=self._listen, name="asker", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.say(Answer(failed="error", said=f"{type(error).__name__}: {error}"))

    def hello(self) -> None:
        """Say who this is, as the launcher has numbered it."""
        self._socket.sendall(line_of(HELLOS, Hello(int(os.environ["RANK"]), os.getpid())))

    def say(self, answer: Answer) -> None:
        self._socket.sendall(line_of(ANSWERS, answer))

    def next(self) -> Ask:
        """The next thing asked, waited for."""
        return self._heard.get()

    def _listen(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                self._heard.put(ASKS.validate_json(line))
        shutil.rmtree(self._folder, ignore_errors=True)  # the asker's, which cannot any more
        os._exit(ORPHANED)


def main(folder: Path) -> None:
    """Serve the group whose folder this is until it is ended."""
    repeat_exactly()
    disable_progress_bar()
    with Wire(folder) as wire:
        wire.hello()
        job = read_file(JOBS, folder / JOB)
        team = together(job.device)
        logging.basicConfig(
            level=logging.INFO,
            format=f"%(asctime)s process {team.rank} of {team.size}: %(message)s",
        )
        lines = build(job, team)
        wire.say(told(lines))
        log.info("holds %s of %s", ", ".join(lines.trainees), job.place)
        while (ask := wire.next()).do != "end":
            since = time.monotonic()
            wire.say(work(lines, ask))
            log.info("%s in %.2f s", ask.do, time.monotonic() - since)


def build(job: Job, team: Team) -> Lines:
    """Load every line; what will be sharded is loaded on the host, and only its shards leave it."""
    spread = job.config.learner.spread
    device = "cpu" if spread == "fsdp2" else str(team.device)
    models: dict[Line, nn.Module] = {
        line: load_trainable(job.place, job.config.model, device) for line in lines_of(job.config)
    }
    return Lines(models, job.config, team)


def work(lines: Lines, ask: Ask) -> Answer:
    """Do one thing. A step that is not finite, a refused checkpoint and a full disk are answers;
    whatever else fails ends the process."""
    place, updates = Path(ask.place), dict[Line, UpdateStats]()
    try:
        if ask.do == "take":
            updates = lines.take(read_file(ORDERS, place))
        elif ask.do == "study":
            updates = lines.study(read_file(LESSONS, place))
        elif ask.do == "restore":
            return restored(lines, place)
        elif ask.do in ("save", "state"):
            return written(lines, ask)
    except NonFinite as error:
        return Answer(failed="not_finite", said=str(error))
    return told(lines, updates)


def written(lines: Lines, ask: Ask) -> Answer:
    """Write a checkpoint, or the weights where this process leads. Nobody waits for another one
    from the first byte on, so the group outlives a disk that is full for some of them."""
    place = Path(ask.place)
    try:
        if ask.do == "save":
            lines.save(place)
        elif state := lines.state(ask.line):  # none in a process that does not lead
            save_tensors(state, place)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return Answer(failed="full", said=f"{error.strerror}: {error.filename or place}")
    return told(lines)


def restored(lines: Lines, folder: Path) -> Answer:
    """Read a checkpoint; what does not belong to these lines is refused by all alike."""
    try:
        lines.restore(folder)
    except ValueError as error:
        return Answer(failed="refused", said=str(error))
    return told(lines)


def told(lines: Lines, updates: dict[Line, UpdateStats] | None = None) -> Answer:
    """Where the lines stand now."""
    marks = {line: trainee.held.mark() for line, trainee in lines.trainees.items()}
    return Answer(updates or {}, lines.versions(), marks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    dist.destroy_process_group()
    logging.shutdown()
    os._exit(0)  # taking torch down in good order would take seconds, for nothing
