"""Advantages that differ from token to token of one rollout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from pipeline.advantages.peers import Compared, Peers, by_token, still
from pipeline.measures import NotMeasurable
from pipeline.settings.objective import ObjectiveConfig
from pipeline.types import Evidence, Reading

STEPS = "steps"  # the meter that scores an attempt's steps
SHARPNESS = 0.1  # temperature of PURE's weights (arXiv 2504.15275)


def tempo(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """(R - m + V(after) - V(before)) / s for each token: credit where siblings part.

    rewards  [K]; m their mean, s their sample deviation
    V        mean reward of the siblings whose written tokens begin alike, so far
    ->       [K][written tokens], any finite number; a token that no sibling chose otherwise has
             (R - m) / s
    Source: TEMPO, arXiv 2509.18314. Long varied texts share few tokens, and differ from GRPO in
    their first ones alone. Equal rewards get 0.
    """
    return [_tempo(one) for one in peers]


def _tempo(one: Peers) -> Compared:
    if still(one.rewards):
        return Compared(torch.zeros_like(one.rewards))
    centred = one.rewards - one.rewards.mean()
    values = prefix_values([_written(one, seat) for seat in one.judged.kept], one.rewards.tolist())
    rows = [own + row[1:] - row[:-1] for own, row in zip(centred, values, strict=True)]
    return by_token([row / one.rewards.std() for row in rows])


def prefix_values(texts: Sequence[Sequence[int]], rewards: Sequence[float]) -> list[Tensor]:
    """Mean reward of the texts that begin as this one does, after 0, 1, ... of its T tokens.

    texts    [K][T]
    rewards  [K]
    ->       [K][T + 1], the first of each the mean of all, the last that of the equal texts and
             those that go on from it
    """
    nodes: dict[tuple[int, int], int] = {}  # (node, token) -> the node behind it; 0 is the root
    paths: list[list[int]] = []
    sums, counts = [0.0], [0]
    for text, reward in zip(texts, rewards, strict=True):
        path = [0]
        for token in text:
            node = nodes.setdefault((path[-1], token), len(sums))
            if node == len(sums):
                sums.append(0.0)
                counts.append(0)
            path.append(node)
        for node in path:
            sums[node] += reward
            counts[node] += 1
        paths.append(path)
    return [
        torch.tensor([sums[node] / counts[node] for node in path], dtype=torch.float64)
        for path in paths
    ]


def pure_min(peers: Sequence[Peers], config: ObjectiveConfig) -> list[Compared]:
    """Sum over the steps still ahead of (c - b): an attempt is worth its worst step.

    c     r * softmax(-r / 0.1) over an attempt's steps, r their scores in [-1, 1]: nearly all of
          the least r, nearly nothing of the others
    b     mean over the siblings of (sum of their c) / (number of their steps)
    ->    [K][written tokens]; tokens behind the last step get 0
    Source: PURE, arXiv 2504.15275, its process rewards alone: the configured reward is not read.
    An attempt without steps (malformed, or not measured) gets 0 and is in nobody's b; so does one
    whose siblings have none. Raises NotMeasurable where the meter "steps" was not asked.
    """
    return [_pure_min(one) for one in peers]


def _pure_min(one: Peers) -> Compared:
    read = [_steps(one, seat) for seat in one.judged.kept]
    credits = [min_form(torch.tensor(r.values, dtype=torch.float64)) if r else None for r in read]
    shares = [float(credit.mean()) if credit is not None else None for credit in credits]
    rows = []
    for place, (reading, credit) in enumerate(zip(read, credits, strict=True)):
        others = [s for i, s in enumerate(shares) if i != place and s is not None]
        row = torch.zeros(int(one.lengths[place]), dtype=torch.float64)
        if reading is not None and credit is not None and others:
            ahead = (credit - sum(others) / len(others)).flip(0).cumsum(0).flip(0)
            begins = (0, *reading.at[:-1])
            for begin, end, value in zip(begins, reading.at, ahead, strict=True):
                row[begin:end] = value
        rows.append(row)
    return by_token(rows)


def min_form(scores: Tensor, temperature: float = SHARPNESS) -> Tensor:
    """r * softmax(-r / temperature): scores [steps] -> [steps], whose sum is nearly the least."""
    return scores * torch.softmax(-scores / temperature, dim=0)


def _steps(one: Peers, seat: int) -> Reading | None:
    """The scores of an attempt's steps; None where it has none to read."""
    evidence = one.judged.evidence[seat]
    reading = evidence.reading(STEPS) if isinstance(evidence, Evidence) else None
    if reading is None:
        raise NotMeasurable(f"group {one.name}: pure_min reads {STEPS!r}, which was not measured")
    if reading.status != "measured" or not reading.values:
        return None
    written = sum(one.judged.group.rollouts[seat].written)
    places = (0, *reading.at)
    uneven = len(reading.at) != len(reading.values) or places[-1] > written
    if uneven or any(after <= before for before, after in pairwise(places)):
        raise ValueError(
            f"group {one.name}: {len(reading.values)} steps end behind {reading.at} of {written} "
            "written tokens; each must end behind the one before it and within the text"
        )
    return reading


def _written(one: Peers, seat: int) -> list[int]:
    rollout = one.judged.group.rollouts[seat]
    return [token for token, wrote in zip(rollout.tokens, rollout.written, strict=True) if wrote]
