"""A learner in two processes over a tiny random base, and whether processes are there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.learning.launch.group import Launch
from pipeline.learning.launch.learner import LaunchedLearner
from pipeline.learning.launch.messages import Job
from pipeline.learning.ordered import Publish
from pipeline.types import Line
from tests.tiny import tiny_model, tiny_tokenizer


def tiny_base(folder: Path) -> Path:
    """The tiny random model as a folder that any process can load."""
    tiny_model(vocab=264).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def launched(
    base: Path, config: RunConfig, splice: Splice, publish_to: Mapping[Line, Publish]
) -> LaunchedLearner:
    """It writes learner.log beside the base."""
    job = Job(config, str(base), "cpu")
    return LaunchedLearner(Launch(job, base / "learner.log"), splice, publish_to)


def gone(pids: Iterable[int], seconds: float = 20.0) -> bool:
    """Whether none of these processes is there, given so long; one that waits to be reaped is."""
    until = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < until:
        left = {pid for pid in left if _lives(pid)}
        time.sleep(0.05)
    return not left


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
