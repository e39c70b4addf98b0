"""Named points at which a test may break the program, one look-up each while nothing is armed.

A point stands where a fault would hurt most: before and after a commit, between the files of a
checkpoint. Tests arm a point with an action (raise, kill, wait, fill the disk) and then ask what
survived. Nothing in the environment or the configuration can arm one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Action = Callable[[], None]

POINTS = frozenset(
    {
        "run.before_row",
        "run.after_row",
        "resume.selected",
        "lease.before_commit",
        "lease.after_commit",
        "lease.renew_late",
        "lease.takeover",
        "gen.item_row",
        "gen.before_commit",
        "gen.after_commit",
        "roll.row",
        "rew.row",
        "upd.row",
        "upd.before_commit",
        "upd.after_commit",
        "ck.tmpdir",
        "ck.mid_file",
        "ck.file_synced",
        "ck.manifest",
        "ck.dir_synced",
        "ck.renamed",
        "ck.parent_synced",
        "ck.reopened",
        "ck.row",
        "ck.upload_part",
        "ck.upload_done",
        "sync.row",
        "sync.after_commit",
        "eval.row",
        "eval.before_commit",
        "eval.after_commit",
        "stage.before_commit",
        "stage.after_commit",
        "work.put",
        "work.put_after",
        "work.claimed",
        "work.claimed_after",
        "work.finished",
        "work.finished_after",
        "work.refused",
        "work.given_back",
        "gc.selected",
        "gc.row_marked",
        "gc.mid_unlink",
        "gc.row_deleted",
        "mig.before",
        "mig.mid_step",
        "mig.after",
    }
)

_armed: dict[str, Action] = {}


def fault(name: str) -> None:
    """Do nothing, or what a test armed this point with."""
    action = _armed.get(name)
    if action is not None:
        action()


@contextmanager
def armed(name: str, action: Action) -> Iterator[None]:
    """Arm one point for the length of a with block."""
    arm(name, action)
    try:
        yield
    finally:
        disarm(name)


def arm(name: str, action: Action) -> None:
    """Run `action` each time the point is passed. Raises ValueError for a name not in POINTS."""
    if name not in POINTS:
        raise ValueError(f"no fault point is named {name!r}; the list is pipeline.faults.POINTS")
    _armed[name] = action


def disarm(name: str) -> None:
    """Let the point do nothing again."""
    _armed.pop(name, None)
