"""How accelerate is asked to start a learner's processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pipeline

CHILD = "pipeline.learning.launch.child"


def command(folder: Path, processes: int, module: str = CHILD) -> list[str]:
    """Start so many processes of a module, each with the folder as its argument, by the launcher
    of the running interpreter. Its settings stand in a file of the folder: none are a user's own.
    """
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # torch's launcher; each process picks its device itself
        "num_processes": processes,
        "num_machines": 1,
        "machine_rank": 0,
        "main_process_port": 0,  # any free one
        "mixed_precision": "no",
        "use_cpu": False,
        "debug": False,
    }
    file = folder / "accelerate.json"
    file.write_text(json.dumps(settings))
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    logs = ["--log_dir", str(folder / "launcher")]  # else torch leaves a folder behind each time
    return [*launcher, *logs, "--module", module, str(folder)]


def environment(threads: int) -> dict[str, str]:
    """This process's own, in which this package is found and each process computes in so many
    threads."""
    found = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    root = Path(pipeline.__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):  # those are searched anyway
        found["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(root), os.environ.get("PYTHONPATH")))
        )
    return found
