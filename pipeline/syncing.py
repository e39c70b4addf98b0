"""Intelligence sync: when the proxy moves toward the policy, and whether it may."""

from __future__ import annotations

from pipeline.crew import Crew
from pipeline.measures import paired
from pipeline.types import PoolFigure, SyncRecord


def sync_if_due(
    crew: Crew, round: int, step: int, *, round_end: bool = False
) -> tuple[SyncRecord, ...]:
    """Move the proxy toward the policy where the rule says so; measured before and after.

    Under `gated`, a sync that lowers the pool's figure beyond noise (the paired interval lies
    below 0) is undone.
    """
    rule = crew.config.sync
    due = (
        round_end
        if rule.rule == "round"
        else rule.rule != "never" and step % rule.every == 0 and not round_end
    )
    if not due:
        return ()
    before, old = crew.pool(), crew.proxy.version.id
    alpha = rule.alpha if rule.rule == "ema" else 0.0
    source = crew.learner.versions()["solver"].id
    new = crew.proxy.sync(step=step, alpha=alpha).id
    after = crew.pool()
    refused, reason = _verdict(before, after, rule.gated)
    if refused:
        crew.proxy.undo()
    record = SyncRecord(
        round=round,
        step=step,
        rule=rule.rule,
        source=source,
        before=old,
        after=old if refused else new,
        alpha=alpha,
        probe_before=before.estimate if before else None,
        probe_after=after.estimate if after else None,
        accepted=not refused,
        reason=reason,
    )
    return (record,)


def _verdict(before: PoolFigure | None, after: PoolFigure | None, gated: bool) -> tuple[bool, str]:
    """Whether to refuse a sync, and why; a sync that nothing can measure is never refused.

    The change is paired over the tasks that could be measured both before and after.
    """
    if before is None or after is None:
        return False, "no pool to measure it on"
    old, new = dict(before.per_task), dict(after.per_task)
    both = [task for task in old if task in new]
    if len(both) < 2:
        return False, f"tasks of the pool measured both before and after: {len(both)}, too few"
    change = paired([[new[task]] for task in both], [[old[task]] for task in both])
    words = (
        f"the pool's figure changed by {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    )
    refused = gated and change.high < 0.0
    return refused, f"{words}: beyond noise, undone" if refused else words
