"""SHA-256 of what a stage did, free of run ids, times and paths, so that two runs compare.

A digest is a function of the nouns alone. `verify` reads the nouns back from their rows and
computes it again, which finds any row that changed.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite

from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    Proposed,
    Reading,
    Rollout,
    StepRecord,
    Studied,
    Task,
)
from store.blobs import little_endian, raw_text

Digests = Mapping[str, str]  # group id -> its digest


def canonical(value: object) -> bytes:
    """JSON of nested nouns with sorted keys; a whole float reads like its integer.

    Raises ValueError for a non-finite number and TypeError for what is no plain value.
    """
    return _json(_plain(value))


def digest_of(*values: object) -> str:
    """Digest of plain values in order."""
    return _hash(canonical(value) for value in values)


def chain(previous: str, place: str, rows: str, content: str) -> str:
    """The next link: everything before it, the stage's place, its rows, the flow's own digest."""
    return digest_of(previous, place, rows, content)


def rollout_digest(rollout: Rollout) -> str:
    small = [rollout.id, rollout.stop, rollout.seed, rollout.version]
    return _hash(
        (
            _json(small),
            raw_text(rollout.completion),
            little_endian(array("i", rollout.tokens)),
            little_endian(array("b", rollout.written)),
            _floats(rollout.logprobs),
        )
    )


def group_digest(group: Group) -> str:
    rollouts = [rollout_digest(rollout) for rollout in group.rollouts]
    parsed = [[one.form, one.first, one.final] for one in group.transcripts]
    return _hash((canonical((group.id, group.role, group.task)), _json(rollouts), _json(parsed)))


def group_digests(groups: Iterable[Group]) -> Digests:
    return {group.id: group_digest(group) for group in groups}


def proposed_digest(proposed: Proposed, groups: Digests) -> str:
    """groups: the digest of each group by its id."""
    told = [groups[group.id] for group in proposed.groups]
    return digest_of(proposed.round, told, proposed.candidates, proposed.evidence)


def step_digest(record: StepRecord, groups: Digests) -> str:
    """Everything of the step but its seconds. groups: the digest of each group by its id."""
    credited = [_credited_digest(one, groups) for one in record.credited]
    made = (record.tasks, dict(record.updates), record.versions, record.syncs)
    cost = (record.resampled,) if record.resampled else ()
    read = (["studied", *map(_studied_digest, record.studied)],) if record.studied else ()
    return digest_of(record.round, record.step, credited, *made, *cost, *read)


def _studied_digest(studied: Studied) -> str:
    """The group and all that was told of it, free of the id of the run that holds it."""
    judged = studied.judged
    return _hash([*_judged(judged, group_digest(judged.group)), _floats(judged.rewards)])


def _judged(judged: Judged, group: str) -> list[bytes]:
    head = (group, judged.kept, dict(judged.components))
    return [canonical(head), *map(_evidence, judged.evidence)]


def _credited_digest(credited: Credited, groups: Digests) -> str:
    judged = credited.judged
    parts = _judged(judged, groups[judged.group.id])
    for row in (judged.rewards, credited.advantages, credited.answer_weights, *credited.by_token):
        parts.append(_floats(row))
    return _hash(parts)


def _evidence(evidence: object) -> bytes:
    if not isinstance(evidence, Evidence):
        return canonical(evidence)
    reference, baseline = evidence.reference_logprobs, evidence.baseline_logprobs
    small = [evidence.status, evidence.version, evidence.reasoning_tokens, evidence.detail]
    read = b"".join(map(_reading, evidence.readings))
    return _json([*small, len(reference)]) + _floats(reference) + _floats(baseline) + read


def _reading(reading: Reading) -> bytes:
    small = [reading.source, reading.version, reading.status, reading.detail, *reading.at]
    values = _floats(reading.values)
    return _json([*small, len(values)]) + values


def _floats(values: Sequence[float]) -> bytes:
    if not all(map(isfinite, values)):
        raise ValueError("a non-finite number may not be stored; record a status instead")
    return little_endian(array("d", values))


def _json(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _hash(parts: Iterable[bytes]) -> str:
    """SHA-256 over parts, each behind its length, so that no two lists of parts run together."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Task):
        return _task(value)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    raise TypeError(f"a digest reads plain values, not {type(value).__name__}")


def _task(task: Task) -> dict[str, object]:
    """The task's fields; other references only where it has some, as digests were before them."""
    told = {field.name: _plain(getattr(task, field.name)) for field in fields(task)}
    if not task.other_references:
        del told["other_references"]
    return told
