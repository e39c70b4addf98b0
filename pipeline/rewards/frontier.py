"""What a proposal is worth: most where the solver succeeds half the time, nothing for a copy.

reward = frontier * novelty * confidence. Frontier is 4p(1-p) within [0.2, 0.8] and 0 outside, where
one attempt of eight is the whole difference; p is the share of attempts that a rule could tell
right, else the stand-in that the config names. Novelty is 1 up to a similarity of 0.75 to the
nearest earlier task, and falls to 0 at 1: below that, being unlike everything earlier is no merit,
and paying for it buys text that poses no task. Confidence is the reference's, where p leans on it:
attempts at a text that poses no task agree on nothing. A proposal whose reference is too doubtful
to teach the solver is paid all the same; every other dropped one earns 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import GeneratorConfig
from pipeline.parents import at_frontier
from pipeline.types import Group, Judged, ProposalEvidence

NEAR = 0.75  # similarity from which a proposal is on its way to being a copy


def frontier_pay(p: float) -> float:
    """4p(1-p), in [0, 1]: 1 at p = 0.5, 0 outside [0.2, 0.8]."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a share of attempts must lie in [0, 1], got {p}")
    return 4.0 * p * (1.0 - p) if at_frontier(p) else 0.0


def novelty(similarity: float) -> float:
    """1 up to NEAR, then in a straight line to 0 at similarity 1."""
    return min(1.0, (1.0 - similarity) / (1.0 - NEAR))


def judge_proposals(
    group: Group, evidence: Sequence[ProposalEvidence], config: GeneratorConfig
) -> Judged:
    """Rewards of a generator group, in [0, 1].

    kept        leaves out what nobody attempted, and admitted proposals whose attempts could not
                be measured: an unmade measurement is no 0
    components  form; frontier; novelty, of the similarity that the curriculum recorded, whatever
                became of the proposal; confidence; raw, the product of the last three and the
                reward
    """
    if group.role != "generator":
        raise ValueError(f"group {group.id} is a {group.role}'s; proposals are a generator's")
    pays = [_pay(item, config) for item in evidence]
    kept = tuple(seat for seat, pay in enumerate(pays) if pay is not None)
    frontier = tuple(pay for pay in pays if pay is not None)
    new = tuple(novelty(evidence[seat].similarity) for seat in kept)
    sure = tuple(_confidence(evidence[seat]) for seat in kept)
    raw = tuple(a * b * c for a, b, c in zip(frontier, new, sure, strict=True))
    form = tuple(float(evidence[seat].drop != "malformed") for seat in kept)
    terms = {"form": form, "frontier": frontier, "novelty": new, "confidence": sure, "raw": raw}
    return Judged(group, tuple(evidence), kept, raw, terms)


def _pay(evidence: ProposalEvidence, config: GeneratorConfig) -> float | None:
    """Frontier pay of one proposal; None where it could not be measured."""
    if evidence.drop == "not_attempted":
        return None
    if evidence.drop not in ("admitted", "low_confidence"):
        return 0.0
    stand_in = evidence.beats if config.frontier == "beats" else evidence.agreement
    p = evidence.solved if evidence.solved is not None else stand_in
    return None if p is None else frontier_pay(p)


def _confidence(evidence: ProposalEvidence) -> float:
    """The reference's confidence; 1 where a rule told success, or nothing was attempted."""
    if evidence.solved is not None or evidence.confidence is None:
        return 1.0
    return evidence.confidence
