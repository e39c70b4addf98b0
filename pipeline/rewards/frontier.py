"""What a proposal is worth: most where the solver succeeds half the time, nothing for a copy.

reward = 4p(1-p) * (1 - similarity to the nearest earlier task). p is the share of attempts that a
rule could tell right, else the stand-in that the config names. Every dropped proposal earns 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import GeneratorConfig
from pipeline.types import Group, Judged, ProposalEvidence


def frontier_pay(p: float) -> float:
    """4p(1-p), in [0, 1]: 1 at p = 0.5, 0 where nobody or everybody succeeds."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a share of attempts must lie in [0, 1], got {p}")
    return 4.0 * p * (1.0 - p)


def judge_proposals(
    group: Group, evidence: Sequence[ProposalEvidence], config: GeneratorConfig
) -> Judged:
    """Rewards of a generator group, in [0, 1].

    kept        leaves out what nobody attempted, and admitted proposals whose attempts could not
                be measured: an unmade measurement is no 0
    components  form; frontier, 4p(1-p); novelty, 1 - similarity; raw, their product and the reward.
                Novelty is what the curriculum recorded, whatever became of the proposal
    """
    if group.role != "generator":
        raise ValueError(f"group {group.id} is a {group.role}'s; proposals are a generator's")
    pays = [_pay(item, config) for item in evidence]
    kept = tuple(seat for seat, pay in enumerate(pays) if pay is not None)
    frontier = tuple(pay for pay in pays if pay is not None)
    novelty = tuple(1.0 - evidence[seat].similarity for seat in kept)
    raw = tuple(pay * new for pay, new in zip(frontier, novelty, strict=True))
    form = tuple(float(evidence[seat].drop != "malformed") for seat in kept)
    terms = {"form": form, "frontier": frontier, "novelty": novelty, "raw": raw}
    return Judged(group, tuple(evidence), kept, raw, terms)


def _pay(evidence: ProposalEvidence, config: GeneratorConfig) -> float | None:
    """Frontier pay of one proposal; None where it could not be measured."""
    if evidence.drop == "not_attempted":
        return None
    if evidence.drop != "admitted":
        return 0.0
    stand_in = evidence.beats if config.frontier == "beats" else evidence.agreement
    p = evidence.solved if evidence.solved is not None else stand_in
    return None if p is None else frontier_pay(p)
